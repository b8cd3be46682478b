# SPDX-License-Identifier: MIT
"""Labels that come with the data: what stands at padding, and what presets do with such a column."""
import harness

SFT = [{"tokens": [7, 5, 6], "labels": [-100, 5, 6]}, {"tokens": [1], "labels": [1]}]


def first_batch(tmp_path, rows, **feed):
    dataset = harness.pack(tmp_path / "dataset", rows)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, **feed)
    with harness.Daemon(config) as daemon:
        return daemon.cat()[0]["tensors"]


def test_padding_of_labels_is_left_out_of_the_loss(tmp_path):
    found = first_batch(tmp_path, SFT, batch={"size": 3, "last": "pad"},
                        tensors={"labels": {"from": "labels"}, "ours": {"from": "labels", "pad": 0}})
    assert found["labels"].tolist() == [[-100, 5, 6], [1, -100, -100], [-100, -100, -100]]
    assert found["ours"].tolist() == [[-100, 5, 6], [1, 0, 0], [0, 0, 0]]


def test_rows_that_do_not_exist_have_no_class(tmp_path):
    found = first_batch(tmp_path, harness.CANONICAL, batch={"size": 5, "last": "pad"},
                        tensors={"labels": {"from": "label"}})
    assert found["labels"].tolist() == [0, 1, 0, -100, -100]
