#include "ops.h"

#include <cstring>

#include "ops_internal.h"
#include "stopwatch.h"

namespace vg {

void Ops::run(ggml_tensor * dst, int ith, int nth, void * raw) {
    const auto & node = *static_cast<const Node *>(raw);
    if (ith != 0 || node.work == Engine::OTHER)
        return node.body(dst, ith, nth);
    Stopwatch watch;
    node.body(dst, ith, nth);
    node.engine.add_work(node.work, watch.lap());
}

ggml_tensor * Ops::node(Engine::Work work, int64_t ne0, int64_t ne1, std::initializer_list<ggml_tensor *> args,
                        Body body) {
    nodes_.push_back({engine_, work, std::move(body)});
    ggml_tensor * list[GGML_MAX_SRC];
    std::copy(args.begin(), args.end(), list);
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, ne0, ne1, 1, 1, list, int(args.size()), run, GGML_N_TASKS_MAX,
                          &nodes_.back());
}

// Columns of a result are shared out in cache lines.
static constexpr int64_t kColumns = 16;
// Rows of a narrow result, in panels of the widest kernel.
static constexpr int64_t kRows = 32;

static void scale_rows(float * y, int64_t ldy, int64_t rows, int64_t cols, float scale) {
    for (int64_t i = 0; i < rows; ++i, y += ldy) {
        for (int64_t j = 0; j < cols; ++j)
            y[j] *= scale;
    }
}

ggml_tensor * Ops::lora_in(const LoraGroup & lora, ggml_tensor * x, float scale) {
    GGML_ASSERT(lora.a->ne[0] == x->ne[0]);
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(Engine::LORA, lora.width, x->ne[1], {x}, [this, &lora, scale](ggml_tensor * z, int ith, int nth) {
        const ggml_tensor * x = z->src[0];
        const auto [rows, columns] = gemm_part(z->ne[1], z->ne[0], ith, nth);
        const int64_t m = rows.end - rows.begin, n = columns.end - columns.begin;
        if (m == 0 || n == 0)
            return;
        gemm_columns(weights_of(lora.a), false, row(x, rows.begin), stride(x), row(z, rows.begin), stride(z), m, false,
                     columns.begin, columns.end, engine_.scratch(ith));
        scale_rows(row(z, rows.begin) + columns.begin, stride(z), m, n, scale);
    });
}

ggml_tensor * Ops::linear(ggml_tensor * w, ggml_tensor * x, const LoraGroup * lora, ggml_tensor * z) {
    GGML_ASSERT(w->ne[0] == x->ne[0]);
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(
        Engine::LINEAR, w->ne[1], x->ne[1], {w, x, lora ? z : x}, [this, lora](ggml_tensor * y, int ith, int nth) {
            const ggml_tensor *w = y->src[0], *x = y->src[1], *z = y->src[2];
            const auto [begin, end] = share(y->ne[0], ith, nth, kColumns);
            if (begin == end)
                return;
            void * scratch = engine_.scratch(ith);
            gemm_columns(weights_of(w), false, cdata(x), stride(x), data(y), stride(y), x->ne[1], false, begin, end,
                         scratch);
            if (!lora)
                return;
            for (const auto & part : lora->parts) {
                const int64_t from = std::max(begin, part.row), to = std::min(end, part.row + part.rows);
                if (from < to) {
                    gemm_columns(weights_of(part.b->data), false, cdata(z) + part.z, stride(z), data(y) + part.row,
                                 stride(y), x->ne[1], true, from - part.row, to - part.row, scratch);
                }
            }
        });
}

ggml_tensor * Ops::lora_out_back(const LoraGroup & lora, ggml_tensor * dy, float scale) {
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(Engine::LORA, lora.width, dy->ne[1], {dy}, [this, &lora, scale](ggml_tensor * dz, int ith, int nth) {
        const ggml_tensor * dy = dz->src[0];
        const auto [begin, end] = share(dz->ne[1], ith, nth, kRows);
        if (begin == end)
            return;
        for (const auto & part : lora.parts) {
            gemm_columns(weights_of(part.b->data), true, row(dy, begin) + part.row, stride(dy), row(dz, begin) + part.z,
                         stride(dz), end - begin, false, 0, part.b->cols, engine_.scratch(ith));
        }
        scale_rows(row(dz, begin), stride(dz), end - begin, lora.width, scale);
    });
}

ggml_tensor * Ops::linear_back(ggml_tensor * w, ggml_tensor * dy, const LoraGroup * lora, ggml_tensor * dz) {
    GGML_ASSERT(w->ne[1] == dy->ne[0]);
    engine_.reserve_scratch(gemm_scratch_bytes());
    return node(Engine::LINEAR, w->ne[0], dy->ne[1], {w, dy, lora ? dz : dy},
                [this, lora](ggml_tensor * dx, int ith, int nth) {
                    const ggml_tensor *w = dx->src[0], *dy = dx->src[1], *dz = dx->src[2];
                    const auto [begin, end] = share(dx->ne[0], ith, nth, kColumns);
                    if (begin == end)
                        return;
                    void * scratch = engine_.scratch(ith);
                    gemm_columns(weights_of(w), true, cdata(dy), stride(dy), data(dx), stride(dx), dy->ne[1], false,
                                 begin, end, scratch);
                    if (lora) {
                        gemm_columns(weights_of(lora->a), true, cdata(dz), stride(dz), data(dx), stride(dx), dy->ne[1],
                                     true, begin, end, scratch);
                    }
                });
}

// g [cols, rows] += Σ_t outer: rows from a [rows, T], columns from b [cols, T]. The long side is split between the
// threads and goes first, where the product is fast.
static void accumulate_outer(float * g, int64_t rows, int64_t cols, const float * a, int64_t lda, const float * b,
                             int64_t ldb, int64_t T, int ith, int nth, char * scratch) {
    const auto [begin, end] = share(std::max(rows, cols), ith, nth, kColumns);
    if (begin == end)
        return;
    if (rows >= cols) {
        gemm_outer(a + begin, lda, b, ldb, g + begin * cols, cols, T, end - begin, cols, 0, 1, scratch);
        return;
    }
    float * transposed = reinterpret_cast<float *>(scratch);
    const size_t bytes = size_t((end - begin) * rows) * sizeof(float);
    std::memset(transposed, 0, bytes);
    gemm_outer(b + begin, ldb, a, lda, transposed, rows, T, end - begin, rows, 0, 1, scratch + (bytes + 63) / 64 * 64);
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = begin; c < end; ++c)
            g[r * cols + c] += transposed[(c - begin) * rows + r];
    }
}

ggml_tensor * Ops::accumulate_lora(const LoraGroup & lora, ggml_tensor * x, ggml_tensor * z, ggml_tensor * dy,
                                   ggml_tensor * dz) {
    size_t transposed = size_t(lora.a->ne[0] * lora.width);
    for (const auto & part : lora.parts)
        transposed = std::max(transposed, size_t(part.rows * part.b->cols));
    engine_.reserve_scratch(gemm_scratch_bytes() + transposed * sizeof(float) + 64);
    return node(Engine::LORA, 1, 1, {x, z, dy, dz}, [this, &lora](ggml_tensor * dst, int ith, int nth) {
        const ggml_tensor *x = dst->src[0], *z = dst->src[1], *dy = dst->src[2], *dz = dst->src[3];
        auto * scratch = static_cast<char *>(engine_.scratch(ith));
        const int64_t T = x->ne[1];
        accumulate_outer(data(lora.a_gradient), lora.width, x->ne[0], cdata(dz), stride(dz), cdata(x), stride(x), T,
                         ith, nth, scratch);
        for (const auto & part : lora.parts) {
            accumulate_outer(data(part.b->gradient), part.rows, part.b->cols, cdata(dy) + part.row, stride(dy),
                             cdata(z) + part.z, stride(z), T, ith, nth, scratch);
        }
    });
}

}  // namespace vg
