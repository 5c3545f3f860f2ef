// One token's objective, and the random numbers.
#include "grpo_loss.h"
#include "philox.h"
#include "test.h"

using namespace vg;

TEST(grpo_token_slope) {
    GrpoOptions options;
    options.epsilon = 0.2f, options.epsilon_high = 0.28f, options.beta = 0.04f;
    const float old_logp = -1.3f, ref_logp = -1.6f;
    for (const double advantage : {1.5, -0.8}) {
        for (const double logp : {-1.9, -1.45, -1.25, -1.02, -0.7}) {
            const auto token = grpo_token(logp, &old_logp, &ref_logp, advantage, options);
            const double h = 1e-6;
            const double numeric = (grpo_token(logp + h, &old_logp, &ref_logp, advantage, options).loss -
                                    grpo_token(logp - h, &old_logp, &ref_logp, advantage, options).loss) /
                                   (2 * h);
            CHECK_CLOSE(token.slope, numeric, 1e-6);
        }
    }
    CHECK(grpo_token(-0.7, &old_logp, &ref_logp, 1.5, options).clip_high);
    CHECK(grpo_token(-1.9, &old_logp, &ref_logp, -0.8, options).clip_low);
    CHECK(!grpo_token(-1.3, &old_logp, &ref_logp, -0.8, options).clip_low);
}

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
TEST(philox_known_answers) {
    const auto zero = philox4x32({0, 0, 0, 0}, {0, 0});
    CHECK(zero[0] == 0x6627e8d5 && zero[1] == 0xe169c58d && zero[2] == 0xbc57ac4c && zero[3] == 0x9b00dbd8);
    const auto ones = philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff});
    CHECK(ones[0] == 0x408f276d && ones[1] == 0x41c83b0e && ones[2] == 0xa20bc7c6 && ones[3] == 0x6d5451fd);
}
