/* SPDX-License-Identifier: MIT */
/* What a dataset's lists may say, in the words of who has to mend them. */
#include <errno.h>
#include <inttypes.h>

#include "mask/compute.h"
#include "mask/row_view.h"

/* The row of an index in the configuration, the row's sequence of one in a packed dataset. */
static int check_index(const TensorSet *set, const TensorSpec *spec, int64_t index,
                       const char *where, uint32_t length, Error *error) {
    uint32_t place;

    if (mask_rule_index(index, length, &place) && (set->parity || index >= 0))
        return 0;
    return error_set(
        error, -ERANGE,
        "tensor %s: index %" PRId64 " is outside the %s, which has %" PRIu32 " %s%s", spec->name,
        index, where, length, *where == 'r' ? "places" : "tokens",
        set->parity || index >= 0 ? "" : "; 'values: parity' counts negative ones from the end");
}

static int check_spans(const RowView *row, const TensorSpec *spec, Error *error) {
    RowList list = row_list(row, spec->spans, spec->spans_element, spec->spans_width);
    uint32_t length = row_sequence_length(row);

    if (list.count % 2)
        return error_set(error, -ERANGE,
                         "tensor %s: the spans of a sequence are %" PRIu32
                         " numbers, but each has a beginning and an end",
                         spec->name, list.count);
    for (uint32_t i = 0; i < list.count && !row->set->parity; i += 2) {
        int64_t from = row_list_value(&list, i), end = row_list_value(&list, i + 1);

        if (from < 0 || end < from || end > length)
            return error_set(error, -ERANGE,
                             "tensor %s: the span %" PRId64 " .. %" PRId64
                             " does not lie in its sequence of %" PRIu32
                             " tokens; 'values: parity' takes what of it does",
                             spec->name, from, end, length);
    }
    return 0;
}

static int check_steps(const RowView *row, const TensorSpec *spec, Error *error) {
    const MaskStep *steps = steps_of(row->set, spec);
    bool packed = row->set->packed;
    int r = 0;

    for (uint32_t s = 0; s < spec->step_count && r == 0; s++) {
        if (steps[s].op == MASK_INDICES) {
            for (uint32_t i = 0; i < steps[s].count && r == 0; i++)
                r = check_index(row->set, spec, row->set->values[steps[s].first + i], "row",
                                row->length, error);
        } else if (steps[s].op == MASK_INDEX_COLUMN) {
            RowList list = row_list(row, steps[s].first, steps[s].count, 1);

            for (uint32_t i = 0; i < list.count && r == 0; i++)
                r = check_index(row->set, spec, row_list_value(&list, i),
                                packed ? "sequence" : "row",
                                packed ? row_sequence_length(row) : row->length, error);
        }
    }
    return r;
}

bool compute_checks(const TensorSet *set) {
    for (uint32_t s = 0; s < set->step_count; s++)
        if (set->steps[s].op == MASK_INDICES || set->steps[s].op == MASK_INDEX_COLUMN)
            return true;
    for (uint32_t t = 0; t < set->count; t++)
        if (set->tensors[t].has_spans)
            return true;
    return false;
}

int compute_check_row(const TensorSet *set, const FillRow *source, uint32_t length, Error *error) {
    RowView row = row_view(set, source, length);
    int r = 0;

    for (uint32_t t = 0; t < set->count && r == 0; t++) {
        const TensorSpec *spec = &set->tensors[t];

        r = spec->has_spans ? check_spans(&row, spec, error) : check_steps(&row, spec, error);
    }
    return r;
}
