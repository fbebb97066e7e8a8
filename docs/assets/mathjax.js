// Typesets what arithmatex marks; without a network formulas stay readable as TeX.
window.MathJax = {
  tex: {inlineMath: [['\\(', '\\)']], displayMath: [['\\[', '\\]']]},
  options: {ignoreHtmlClass: '.*|', processHtmlClass: 'arithmatex'},
};
