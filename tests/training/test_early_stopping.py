from genrec_pyg.training import EarlyStopping


def test_stops_after_patience_and_survives_a_round_trip():
    stopper = EarlyStopping(2)
    assert [stopper.step(value, epoch) for epoch, value in enumerate([0.1, 0.3, 0.3, 0.2])] == [
        True,
        True,
        False,
        False,
    ]
    assert stopper.should_stop and (stopper.best, stopper.best_epoch) == (0.3, 1)
    other = EarlyStopping(3)
    other.load_state_dict(stopper.state_dict())
    assert not other.should_stop and other.best_epoch == 1


def test_zero_patience_never_stops():
    stopper = EarlyStopping(0)
    for epoch in range(50):
        stopper.step(0.0, epoch)
    assert not stopper.should_stop
