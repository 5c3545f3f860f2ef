// The packed product against double precision, for every kernel this processor can run.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/gemm.h"
#include "core/gemm_isa.h"
#include "test.h"

using namespace vg;

namespace {

struct Random {
    uint32_t state = 1;
    float next() {
        state = state * 1664525u + 1013904223u;
        return static_cast<float>(state >> 8 & 0xffff) / 32768.0f - 1.0f;
    }
    std::vector<float> values(int64_t n) {
        std::vector<float> v(static_cast<size_t>(n));
        for (float & f : v) {
            f = next();
        }
        return v;
    }
};

struct Scratch {
    void * data;
    explicit Scratch(size_t bytes) : data(std::aligned_alloc(64, (bytes + 63) / 64 * 64)) {}
    ~Scratch() { std::free(data); }
    Scratch(const Scratch &) = delete;
    Scratch & operator=(const Scratch &) = delete;
};

// Runs the body once with each kernel, and puts the choice back.
template <class F> void with_each_kernel(F body) {
    for (const GemmIsa * const * isa = gemm_isas(); *isa; isa++) {
        CHECK(gemm_force_kernel((*isa)->name));
        CHECK(std::string(gemm_kernel()) == (*isa)->name);
        body((*isa)->name);
    }
    gemm_force_kernel(nullptr);
}

// A stored matrix and what it holds, read back by ggml. Its buffer ends where its last row ends.
struct Matrix {
    std::vector<char> bytes;
    std::vector<double> values;
    GemmWeights weights;

    Matrix(ggml_type type, int64_t rows, int64_t cols, size_t gap, Random & random) {
        const size_t used = ggml_row_size(type, cols);
        weights.type = type;
        weights.rows = rows;
        weights.cols = cols;
        weights.row_bytes = used + gap;
        bytes.resize(weights.row_bytes * static_cast<size_t>(rows) - gap);
        weights.data = bytes.data();
        for (int64_t r = 0; r < rows; r++) {
            char * row = bytes.data() + weights.row_bytes * static_cast<size_t>(r);
            const std::vector<float> exact = random.values(cols);
            std::vector<float> stored = exact;
            if (type == GGML_TYPE_F32) {
                std::memcpy(row, exact.data(), used);
            } else {
                ggml_quantize_chunk(type, exact.data(), row, 0, 1, cols, nullptr);
                ggml_get_type_traits(type)->to_float(row, stored.data(), cols);
            }
            values.insert(values.end(), stored.begin(), stored.end());
        }
    }
    double at(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * weights.cols + c)]; }
};

void multiply(const GemmWeights & w, bool transposed, const float * x, int64_t ldx, std::vector<float> & y, int64_t ldy,
              int64_t m, bool accumulate, int nth) {
    for (int ith = 0; ith < nth; ith++) {
        Scratch scratch(gemm_scratch_bytes());
        gemm(w, transposed, x, ldx, y.data(), ldy, m, accumulate, ith, nth, scratch.data);
    }
}

std::string describe(const char * kernel, const GemmWeights & w, bool transposed, int64_t m, bool accumulate) {
    return std::string(kernel) + " " + ggml_type_name(w.type) + (transposed ? " transposed" : "") +
           (accumulate ? " accumulate" : "") + " M " + std::to_string(m) + " R " + std::to_string(w.rows) + " C " +
           std::to_string(w.cols);
}

// One product in all the ways that must agree: against double, for 1, 2, 3 threads, and each row by itself.
void check_product(const char * kernel, const Matrix & matrix, bool transposed, int64_t m, Random & random) {
    const GemmWeights & w = matrix.weights;
    const int64_t k = transposed ? w.rows : w.cols;
    const int64_t n = transposed ? w.cols : w.rows;
    const int64_t ldx = k + 3, ldy = n + 5;
    const std::vector<float> x = random.values((m - 1) * ldx + k);
    const std::vector<float> before = random.values((m - 1) * ldy + n);
    for (bool accumulate : {false, true}) {
        const std::string what = describe(kernel, w, transposed, m, accumulate);
        std::vector<float> y = before;
        multiply(w, transposed, x.data(), ldx, y, ldy, m, accumulate, 1);
        int outside = 0, wrong = 0;
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < ldy && i * ldy + j < static_cast<int64_t>(y.size()); j++) {
                const size_t at = static_cast<size_t>(i * ldy + j);
                if (j >= n) {
                    outside += y[at] != before[at];
                    continue;
                }
                double sum = accumulate ? before[at] : 0.0, size = std::fabs(sum);
                for (int64_t s = 0; s < k; s++) {
                    const double term =
                        x[static_cast<size_t>(i * ldx + s)] * (transposed ? matrix.at(s, j) : matrix.at(j, s));
                    sum += term;
                    size += std::fabs(term);
                }
                wrong += !(std::fabs(y[at] - sum) <= 1e-6 * size);
            }
        }
        vg::test::checked();
        if (wrong || outside) {
            vg::test::fail(__FILE__, __LINE__,
                           what + ": " + std::to_string(wrong) + " values wrong, " + std::to_string(outside) +
                               " overwritten between the rows");
        }
        for (int nth : {2, 3}) {
            std::vector<float> again = before;
            multiply(w, transposed, x.data(), ldx, again, ldy, m, accumulate, nth);
            if (std::memcmp(again.data(), y.data(), y.size() * sizeof(float)) != 0) {
                vg::test::fail(__FILE__, __LINE__, what + ": differs with " + std::to_string(nth) + " threads");
            }
        }
        for (int64_t i = 0; i < m; i += m > 20 ? 13 : 1) {
            const auto begin = before.begin() + i * ldy;
            std::vector<float> row(begin, begin + n);
            multiply(w, transposed, x.data() + i * ldx, k, row, n, 1, accumulate, 1);
            if (std::memcmp(row.data(), y.data() + i * ldy, row.size() * sizeof(float)) != 0) {
                vg::test::fail(__FILE__, __LINE__, what + ": row " + std::to_string(i) + " differs when alone");
            }
        }
    }
}

}  // namespace

TEST(gemm_odd_shapes) {
    with_each_kernel([](const char * kernel) {
        Random random;
        for (int64_t rows : {1, 2, 7, 8, 15, 16, 17, 33, 100}) {
            for (int64_t cols : {1, 3, 8, 16, 31, 64, 65}) {
                for (ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
                    const Matrix matrix(type, rows, cols, 12, random);
                    for (bool transposed : {false, true}) {
                        for (int64_t m : {1, 2, 5, 13, 16, 29, 70}) {
                            check_product(kernel, matrix, transposed, m, random);
                        }
                    }
                }
            }
        }
    });
}

// Several blocks of k, several panels, and the row strides of the model (powers of two among them).
TEST(gemm_long_sums) {
    with_each_kernel([](const char * kernel) {
        Random random;
        for (ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
            const struct {
                int64_t rows, cols;
            } shapes[] = {{70, 1024}, {33, 1312}, {1300, 96}, {643, 64}, {2048, 32}};
            for (const auto & shape : shapes) {
                const Matrix matrix(type, shape.rows, shape.cols, 0, random);
                for (bool transposed : {false, true}) {
                    for (int64_t m : {1, 6, 31, 200}) {
                        check_product(kernel, matrix, transposed, m, random);
                    }
                }
            }
        }
    });
}

TEST(gemm_q8_0_threads_part_a_block) {
    with_each_kernel([](const char * kernel) {
        Random random;
        const Matrix matrix(GGML_TYPE_Q8_0, 40, 96, 0, random);
        for (int64_t m : {1, 4, 40}) {
            check_product(kernel, matrix, true, m, random);
        }
    });
}

// More rows than are packed at a time.
TEST(gemm_many_rows) {
    with_each_kernel([](const char * kernel) {
        Random random;
        for (bool transposed : {false, true}) {
            check_product(kernel, Matrix(GGML_TYPE_F32, 24, 40, 0, random), transposed, 700, random);
            check_product(kernel, Matrix(GGML_TYPE_BF16, 8, 640, 0, random), transposed, 450, random);
            check_product(kernel, Matrix(GGML_TYPE_F32, 640, 8, 0, random), transposed, 450, random);
        }
    });
}

// Every f16 and bf16 pattern: subnormals, infinities and NaN come through as they are.
TEST(gemm_reads_every_half) {
    with_each_kernel([](const char * kernel) {
        for (ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16}) {
            std::vector<uint16_t> bits(65536);
            for (size_t i = 0; i < bits.size(); i++) {
                bits[i] = static_cast<uint16_t>(i);
            }
            std::vector<float> expected(bits.size()), y(bits.size());
            ggml_get_type_traits(type)->to_float(bits.data(), expected.data(), static_cast<int64_t>(bits.size()));
            const GemmWeights w = {bits.data(), type, 2, 65536, 1};
            const float one = 1.0f;
            multiply(w, false, &one, 1, y, 65536, 1, false, 2);
            int wrong = 0;
            for (size_t i = 0; i < bits.size(); i++) {
                wrong += std::isnan(expected[i]) ? !std::isnan(y[i]) : y[i] != expected[i];
            }
            vg::test::checked();
            if (wrong) {
                vg::test::fail(__FILE__, __LINE__,
                               std::string(kernel) + " " + ggml_type_name(type) + ": " + std::to_string(wrong) +
                                   " of 65536 patterns wrong");
            }
        }
    });
}

// A NaN or infinity reaches its own row (in x) or column (in W) of the result, and nothing else.
TEST(gemm_nan_and_infinity_stay_in_place) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    with_each_kernel([&](const char *) {
        for (bool transposed : {false, true}) {
            const int64_t k = 37, n = 45, m = 19;
            std::vector<float> w(static_cast<size_t>(k * n), 1.0f), x(static_cast<size_t>(m * k), 1.0f);
            std::vector<float> y(static_cast<size_t>(m * n));
            const GemmWeights weights = {w.data(), GGML_TYPE_F32, static_cast<size_t>(transposed ? n : k) * 4,
                                         transposed ? k : n, transposed ? n : k};
            x[7 * 37 + 36] = inf;
            w[static_cast<size_t>(transposed ? 20 * n + 44 : 44 * k + 20)] = nan;
            multiply(weights, transposed, x.data(), k, y, n, m, false, 2);
            for (int64_t i = 0; i < m; i++) {
                for (int64_t j = 0; j < n; j++) {
                    const float got = y[static_cast<size_t>(i * n + j)];
                    CHECK(j == 44 ? std::isnan(got) : i == 7 ? got == inf : got == static_cast<float>(k));
                }
            }
        }
    });
}

TEST(gemm_outer_sums_over_rows) {
    with_each_kernel([](const char * kernel) {
        Random random;
        for (int64_t t : {1, 2, 17, 100, 1301}) {
            for (int64_t ra : {1, 16, 45, 640}) {
                for (int64_t rb : {1, 4, 8, 15, 16, 33, 64}) {
                    const int64_t ldx = ra + 2, ldz = rb + 1, ldg = rb + 3;
                    const std::vector<float> x = random.values((t - 1) * ldx + ra),
                                             z = random.values((t - 1) * ldz + rb);
                    const std::vector<float> before = random.values((ra - 1) * ldg + rb);
                    std::vector<float> first;
                    for (int nth : {1, 2, 3}) {
                        std::vector<float> g = before;
                        for (int ith = 0; ith < nth; ith++) {
                            Scratch scratch(gemm_scratch_bytes());
                            gemm_outer(x.data(), ldx, z.data(), ldz, g.data(), ldg, t, ra, rb, ith, nth, scratch.data);
                        }
                        if (nth > 1) {
                            CHECK(std::memcmp(g.data(), first.data(), g.size() * sizeof(float)) == 0);
                            continue;
                        }
                        first = g;
                        int wrong = 0;
                        for (int64_t i = 0; i < ra; i++) {
                            for (int64_t j = 0; j < ldg && i * ldg + j < static_cast<int64_t>(g.size()); j++) {
                                const size_t at = static_cast<size_t>(i * ldg + j);
                                double sum = before[at], size = std::fabs(sum);
                                for (int64_t s = 0; s < t && j < rb; s++) {
                                    const double term = static_cast<double>(x[static_cast<size_t>(s * ldx + i)]) *
                                                        z[static_cast<size_t>(s * ldz + j)];
                                    sum += term;
                                    size += std::fabs(term);
                                }
                                wrong += j < rb ? !(std::fabs(g[at] - sum) <= 1e-6 * size) : g[at] != before[at];
                            }
                        }
                        vg::test::checked();
                        if (wrong) {
                            vg::test::fail(__FILE__, __LINE__,
                                           std::string(kernel) + ": " + std::to_string(wrong) + " values wrong, T " +
                                               std::to_string(t) + " ra " + std::to_string(ra) + " rb " +
                                               std::to_string(rb));
                        }
                    }
                }
            }
        }
    });
}

TEST(gemm_unknown_kernel_is_refused) {
    CHECK(!gemm_force_kernel("no such kernel"));
    CHECK(std::string(gemm_kernel()) == gemm_isas()[0]->name);
}
