#include "whisper_alignment.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace vg {
namespace {

constexpr int MEDIAN_WIDTH = 7;

// In place over each row of `width` values; beyond its ends a row is reflected. A row that is too short stays as it is.
void median_filter(std::vector<float> & rows, int width) {
    const int half = MEDIAN_WIDTH / 2;
    if (width <= half) {
        return;
    }
    std::vector<float> row(static_cast<size_t>(width));
    float window[MEDIAN_WIDTH];
    for (size_t at = 0; at < rows.size(); at += size_t(width)) {
        std::copy_n(rows.begin() + std::ptrdiff_t(at), width, row.begin());
        for (int i = 0; i < width; i++) {
            for (int k = -half; k <= half; k++) {
                int from = std::abs(i + k);
                from = from < width ? from : 2 * (width - 1) - from;
                window[k + half] = row[size_t(from)];
            }
            std::nth_element(window, window + half, window + MEDIAN_WIDTH);
            rows[at + size_t(i)] = window[half];
        }
    }
}

// Mean over the heads of each head's weights, standardised over the tokens: [rows, positions].
std::vector<float> alignment_matrix(const CrossAttention & attention, int positions) {
    const size_t n = size_t(attention.tokens), m = size_t(positions);
    std::vector<float> mean_of_heads(n * m, 0.0f);
    std::vector<float> head(n * m);
    for (int h = 0; h < attention.heads; h++) {
        for (size_t t = 0; t < n; t++) {
            const float * from = attention.weights.data() + (size_t(h) * n + t) * size_t(attention.positions);
            double sum = 0;
            for (size_t p = 0; p < m; p++) {
                sum += from[p];
            }
            // The weights of the silence behind the audio are left out.
            const float scale = sum > 0 ? float(1.0 / sum) : 0.0f;
            for (size_t p = 0; p < m; p++) {
                head[t * m + p] = from[p] * scale;
            }
        }
        for (size_t p = 0; p < m; p++) {
            double sum = 0, squares = 0;
            for (size_t t = 0; t < n; t++) {
                sum += head[t * m + p];
            }
            const double mean = sum / double(n);
            for (size_t t = 0; t < n; t++) {
                const double d = head[t * m + p] - mean;
                squares += d * d;
            }
            const double deviation = std::sqrt(squares / double(n));
            for (size_t t = 0; t < n; t++) {
                head[t * m + p] = deviation > 0 ? float((head[t * m + p] - mean) / deviation) : 0.0f;
            }
        }
        median_filter(head, positions);
        for (size_t i = 0; i < head.size(); i++) {
            mean_of_heads[i] += head[i] / float(attention.heads);
        }
    }
    return mean_of_heads;
}

// The position at which the cheapest monotone path through -x [rows, columns] enters each row.
std::vector<int> warp(const float * x, int rows, int columns) {
    const size_t stride = size_t(columns) + 1;
    std::vector<float> cost(size_t(rows + 1) * stride, std::numeric_limits<float>::infinity());
    enum Step : uint8_t { DIAGONAL, DOWN, RIGHT };
    std::vector<uint8_t> trace(cost.size(), DIAGONAL);
    cost[0] = 0;
    for (int i = 1; i <= rows; i++) {
        for (int j = 1; j <= columns; j++) {
            const size_t at = size_t(i) * stride + size_t(j);
            const float diagonal = cost[at - stride - 1], down = cost[at - stride], right = cost[at - 1];
            Step step = RIGHT;
            if (diagonal < down && diagonal < right) {
                step = DIAGONAL;
            } else if (down < diagonal && down < right) {
                step = DOWN;
            }
            const float before = step == DIAGONAL ? diagonal : step == DOWN ? down : right;
            cost[at] = before - x[size_t(i - 1) * size_t(columns) + size_t(j - 1)];
            trace[at] = step;
        }
    }
    std::vector<int> entered(size_t(rows), 0);
    int i = rows, j = columns;
    while (i > 0 && j > 0) {
        entered[size_t(i - 1)] = j - 1;
        const uint8_t step = trace[size_t(i) * stride + size_t(j)];
        i -= step != RIGHT;
        j -= step != DOWN;
    }
    return entered;
}

}  // namespace

std::vector<int> align_tokens(const CrossAttention & attention, int skip, int positions) {
    const int columns = std::clamp(positions, 1, attention.positions);
    const int rows = attention.tokens - skip - 1;
    if (rows < 1) {
        return {};
    }
    const std::vector<float> matrix = alignment_matrix(attention, columns);
    return warp(matrix.data() + size_t(skip) * size_t(columns), rows, columns);
}

}  // namespace vg
