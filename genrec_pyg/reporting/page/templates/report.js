'use strict';
// Draws the page from the block of JSON. Whatever comes from data enters as text or attribute, never as markup.
(function () {
  const data = JSON.parse(document.getElementById('data').textContent);
  const COLORS = ['#2f6fde', '#d9631e', '#2a9d62', '#a24bbf', '#c2393d', '#7a6a1f', '#1b8aa5', '#8a8f99'];
  const SVG = 'http://www.w3.org/2000/svg';
  const main = document.getElementById('main');
  const tip = document.getElementById('tip');
  main.textContent = '';

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === 'text') node.textContent = value;
      else if (name === 'on') for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
    }
    node.append(...children);
    return node;
  }
  function draw(tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function section(id, title, note, ...children) {
    document.getElementById('nav').append(el('a', { href: '#' + id, text: title }));
    const box = el('section', { id, 'aria-label': title }, el('h2', { text: title }));
    if (note) box.append(el('p', { class: 'note', text: note }));
    box.append(...children);
    main.append(box);
    return box;
  }
  function number(value) {
    if (value === null || value === undefined) return '-';
    const size = Math.abs(value);
    return size >= 1000 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 4);
  }
  function tick(value) {
    const size = Math.abs(value);
    return size > 0 && (size < 0.001 || size >= 100000) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  }
  function clusterColor(cluster) { return cluster < 0 ? '#999999' : 'hsl(' + (cluster * 137.5 % 360).toFixed(1) + ', 62%, 50%)'; }
  function explain(node, text) {
    const title = draw('title', {}, text);
    node.append(title);
    const show = function (event) {
      tip.textContent = text;
      tip.hidden = false;
      tip.style.left = Math.min(event.clientX + 12, Math.max(0, window.innerWidth - tip.offsetWidth - 8)) + 'px';
      tip.style.top = (event.clientY + 14) + 'px';
    };
    node.addEventListener('pointermove', show);
    node.addEventListener('pointerdown', show);
    node.addEventListener('pointerleave', function () { tip.hidden = true; });
    return node;
  }
  function legend(series) {
    const box = el('div', { class: 'legend' });
    series.forEach(function (one, index) {
      const swatch = el('i');
      swatch.style.background = COLORS[index % COLORS.length];
      box.append(el('span', {}, swatch, one.name));
    });
    return box;
  }
  function frame(chart, low, high, height) {
    const svg = draw('svg', { viewBox: '0 0 360 ' + height, role: 'img', 'aria-label': chart.title });
    const y = function (value) { return height - 24 - (value - low) / (high - low || 1) * (height - 40); };
    for (const value of [low, (low + high) / 2, high]) {
      svg.append(draw('line', { x1: 44, x2: 352, y1: y(value), y2: y(value), class: 'axis' }));
      svg.append(draw('text', { x: 40, y: y(value) + 4, 'text-anchor': 'end' }, tick(value)));
    }
    return [svg, y];
  }
  function lineChart(chart) {
    const points = chart.series.flatMap(function (one) { return one.points; });
    const xs = points.map(function (p) { return p[0]; }), ys = points.map(function (p) { return p[1]; });
    const left = Math.min(...xs), right = Math.max(...xs);
    const [svg, y] = frame(chart, Math.min(...ys), Math.max(...ys), 200);
    const x = function (value) { return 48 + (value - left) / (right - left || 1) * 300; };
    svg.append(draw('text', { x: 48, y: 196 }, tick(left)));
    svg.append(draw('text', { x: 352, y: 196, 'text-anchor': 'end' }, chart.x + ' ' + tick(right)));
    chart.series.forEach(function (one, index) {
      const color = COLORS[index % COLORS.length];
      const path = one.points.map(function (p) { return x(p[0]).toFixed(1) + ',' + y(p[1]).toFixed(1); }).join(' ');
      svg.append(draw('polyline', { points: path, fill: 'none', stroke: color, 'stroke-width': 2 }));
      for (const p of one.points) {
        svg.append(explain(draw('circle', { cx: x(p[0]), cy: y(p[1]), r: 3, fill: color }),
          one.name + ', ' + chart.x + ' ' + p[0] + ': ' + number(p[1])));
      }
    });
    return el('figure', {}, el('figcaption', { text: chart.title }), svg, legend(chart.series));
  }
  function barChart(chart) {
    const values = chart.series.flatMap(function (one) { return one.values; }).filter(function (v) { return v !== null; });
    const [svg, y] = frame(chart, Math.min(0, ...values), Math.max(0, ...values), 180);
    const slot = 300 / chart.groups.length, width = slot * 0.8 / chart.series.length;
    chart.groups.forEach(function (group, place) {
      svg.append(draw('text', { x: 48 + slot * (place + 0.5), y: 174, 'text-anchor': 'middle' }, group.split(' (')[0]));
      chart.series.forEach(function (one, index) {
        const value = one.values[place];
        if (value === null) return;
        const top = Math.min(y(value), y(0)), size = Math.max(Math.abs(y(value) - y(0)), 0.5);
        svg.append(explain(draw('rect', { x: 48 + slot * place + slot * 0.1 + width * index, y: top, width: width * 0.94,
          height: size, fill: COLORS[index % COLORS.length] }), (group ? group + ', ' : '') + one.name + ': ' + number(value)));
      });
    });
    return el('figure', {}, el('figcaption', { text: chart.title }), svg, legend(chart.series));
  }
  function charts(list, small) {
    const box = el('div', { class: small ? 'grid small' : 'grid' });
    for (const chart of list) box.append(chart.kind === 'line' ? lineChart(chart) : barChart(chart));
    return box;
  }

  // Figures that stand alone are read more easily than single bars.
  function figureTable(list) {
    const rows = list.map(function (chart) {
      return el('tr', {}, el('td', { text: chart.title }), el('td', { text: number(chart.series[0].values[0]) }));
    });
    return el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, ...rows)));
  }

  for (const fact of data.facts) document.getElementById('facts').append(el('li', { text: fact }));

  // Table
  const head = el('tr', {}, el('th', { text: 'model', scope: 'col' }));
  for (const column of data.table.columns) head.append(el('th', { text: data.split + ' ' + column, scope: 'col' }));
  const body = el('tbody');
  for (const [name, kind, values] of data.table.rows) {
    const row = el('tr', { class: kind }, el('td', { text: name }));
    for (const value of values) row.append(el('td', { text: value === null ? '-' : value.toFixed(4) }));
    body.append(row);
  }
  const settings = data.runs.map(function (run) {
    const rows = run.settings.map(function (row) { return el('tr', {}, el('td', { text: row[0] }), el('td', { text: row[1] })); });
    return el('details', {}, el('summary', { text: 'Settings of ' + run.name }), el('div', { class: 'scroll' }, el('table', {}, el('tbody', {}, ...rows))));
  });
  section('table', 'Results', 'Runs beside reference models that were tuned on validation, and beside their own parts.',
    el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, head), body)), ...settings);

  if (data.curves.length) section('curves', 'Learning curves', '', charts(data.curves));
  section('groups', 'Who and what is found', 'Recall for users with few and with many training items, and for rare and popular items, in groups of about equal size.', charts(data.groups));
  const small = data.figures.filter(function (c) { return c.small; }), large = data.figures.filter(function (c) { return !c.small; });
  section('spread', 'All lists together', 'coverage: share of items in any list. gini: 0 where all items are listed equally often, 1 where one item has all places. personalization: how different the lists of two users are. novelty: mean self-information of the items in bits. diversity: how different the items of a list are.',
    data.runs.length === 1 ? figureTable(small) : charts(small, true), charts(large));

  // Flips
  const runsWithFlips = Object.keys(data.flips);
  if (runsWithFlips.length) {
    const box = section('flips', 'Flip diffusion', 'Entries of the interaction matrix that the reverse chain changed, before debiasing, and how many of the changes debiasing undid. Replayed from the trained model: debiasing checks a random share of the changes.');
    for (const name of runsWithFlips) {
      const f = data.flips[name];
      const sentence = name + ': ' + f.added + ' added and ' + f.removed + ' removed for ' + f.users + ' users; undone ' +
        f.undone_added + ' additions and ' + f.undone_removed + ' removals' +
        (f.checked === null ? ' (no debiasing)' : ' (' + (100 * f.checked).toFixed(0) + ' % checked)') + '; ' +
        f.edges + ' generated edges in the chosen epoch.';
      box.append(el('p', { class: 'flip-summary', text: sentence }));
      if (f.chart) {
        box.append(charts([f.chart]));
      }
    }
  }

  // Users
  let person = 0, marked = new Map();
  function itemName(item) {
    const entry = data.items[item] || { id: String(item) };
    return entry.title ? entry.title : entry.id;
  }
  function itemLine(item, extra, isHit) {
    const entry = data.items[item] || { id: String(item) };
    const line = el('li', { class: 'item' });
    if (entry.picture && entry.picture.startsWith('data:image/')) line.append(el('img', { src: entry.picture, alt: '', width: 44, height: 44 }));
    line.append(el('span', { class: isHit ? 'hit' : null, text: itemName(item) + (isHit ? ' ✓' : '') }));
    const notes = entry.title ? ['id ' + entry.id] : [];
    if (extra) notes.push(extra);
    if (notes.length) line.append(el('small', { text: notes.join(' · ') }));
    return line;
  }
  function listOf(title, rows, ordered) {
    const list = el(ordered ? 'ol' : 'ul', ordered ? {} : { class: 'items' });
    list.append(...rows);
    return el('div', {}, el('h3', { text: title }), rows.length ? list : el('p', { class: 'note', text: 'none' }));
  }
  function reasons(one, item) {
    return (one.reasons[item] || []).map(function (row) {
      return (row[1] === 'users' ? 'users shared with ' : row[1] + ' like ') + itemName(row[0]) + ' (' + row[2].toFixed(2) + ')';
    }).join('; ');
  }
  const picker = el('select', { id: 'user', 'aria-label': 'User' });
  data.people.forEach(function (one, index) { picker.append(el('option', { value: index, text: 'user ' + one.id })); });
  const search = el('input', { id: 'search', type: 'search', placeholder: 'user id', 'aria-label': 'Find a user by id' });
  const columns = el('div', { class: 'columns', id: 'person' });
  function showPerson() {
    const one = data.people[person];
    picker.value = String(person);
    marked = new Map();
    one.history.forEach(function (i) { marked.set(i, 'history'); });
    Object.values(one.lists).forEach(function (rows) { rows.forEach(function (row) { marked.set(row[0], row[2] ? 'hit' : 'list'); }); });
    columns.textContent = '';
    const more = one.history_size > one.history.length ? ' (first ' + one.history.length + ' of ' + one.history_size + ')' : ' (' + one.history_size + ')';
    columns.append(listOf('History' + more, one.history.map(function (i) { return itemLine(i); })));
    for (const [name, rows] of Object.entries(one.lists)) {
      columns.append(listOf('List of ' + name, rows.map(function (row) {
        const why = reasons(one, row[0]);
        return itemLine(row[0], 'score ' + number(row[1]) + (why ? ' · ' + why : ''), row[2]);
      }), true));
    }
    for (const [name, kinds] of Object.entries(one.flips)) {
      const rows = function (kind) { return kinds[kind].map(function (row) { return itemLine(row[0], 'probability ' + row[1].toFixed(3)); }); };
      columns.append(listOf('Generated interests of ' + name, rows('generated')));
      columns.append(listOf('Flips of ' + name, [
        ...kinds.added.map(function (row) { return itemLine(row[0], 'added'); }),
        ...kinds.removed.map(function (row) { return itemLine(row[0], 'removed'); }),
        ...kinds.undone.map(function (row) { return itemLine(row[0], 'undone by debiasing'); })]));
    }
    columns.append(listOf('Held out', one.held_out.map(function (i) { return itemLine(i); })));
    drawMap();
  }
  function step(by) { person = (person + by + data.people.length) % data.people.length; showPerson(); }
  function find() {
    const wanted = search.value.trim();
    const index = data.people.findIndex(function (one) { return one.id === wanted; });
    search.setCustomValidity(index < 0 && wanted ? 'This user is not on the page' : '');
    search.reportValidity();
    if (index >= 0) { person = index; showPerson(); }
  }
  picker.addEventListener('change', function () { person = Number(picker.value); showPerson(); });
  search.addEventListener('change', find);

  // Maps
  let mapIndex = 0;
  const mapBox = el('div', { id: 'map' }), mapButtons = el('div', { class: 'controls' });
  function drawMap() {
    if (!data.maps.length) return;
    const map = data.maps[mapIndex];
    const svg = draw('svg', { viewBox: '-8 -8 616 416', role: 'img', 'aria-label': 'Map of items by ' + map.name });
    const front = [];
    for (const [item, x, y, cluster] of map.points) {
      const color = clusterColor(cluster), kind = marked.get(item);
      const place = { cx: x * 600, cy: y * 400 };
      const text = itemName(item) + ', ' + (cluster < 0 ? 'no cluster' : 'cluster ' + cluster) + (kind ? ', ' + { history: 'history', list: 'list', hit: 'list, held out' }[kind] : '');
      if (kind) {
        front.push(explain(draw(kind === 'history' ? 'circle' : 'rect', kind === 'history' ? { ...place, r: 6, fill: color, stroke: 'currentColor', 'stroke-width': 1.5, 'data-kind': kind } :
          { x: place.cx - 5, y: place.cy - 5, width: 10, height: 10, fill: kind === 'hit' ? '#2a9d62' : color, stroke: 'currentColor', 'stroke-width': 1.5, 'data-kind': kind }), text));
      } else svg.append(explain(draw('circle', { ...place, r: 3, fill: color, opacity: 0.45 }), text));
    }
    svg.append(...front);
    mapBox.textContent = '';
    mapBox.append(svg);
    Array.from(mapButtons.children).forEach(function (button, index) { button.setAttribute('aria-pressed', String(index === mapIndex)); });
  }
  if (data.people.length) {
    section('users', 'Users', 'Held-out items that a list found are marked ✓. Reasons are the nearest items of the history: by the users that have both, and in each modality (cosine).',
      el('div', { class: 'controls' }, el('button', { type: 'button', id: 'previous', text: '‹ previous', on: { click: function () { step(-1); } } }), picker,
        el('button', { type: 'button', id: 'next', text: 'next ›', on: { click: function () { step(1); } } }), search), columns);
  }
  if (data.maps.length) {
    data.maps.forEach(function (map, index) {
      mapButtons.append(el('button', { type: 'button', text: map.name, 'data-map': map.name, on: { click: function () { mapIndex = index; drawMap(); } } }));
    });
    section('maps', 'Map of interest clusters', 'Nearby items are alike in this modality (t-SNE), colors are clusters. Circles with an edge are the history of the user above, squares the lists; green squares are held-out items that were found.', mapButtons, mapBox);
  }
  if (data.people.length) showPerson(); else drawMap();
  document.body.setAttribute('data-ready', 'yes');
})();
