// A registry of native tests. TEST(name) { … } registers; CHECK and CHECK_CLOSE record failures and go on.
#pragma once

#include <cmath>
#include <sstream>
#include <string>

namespace vg::test {

using Function = void (*)();

struct Registration {
    Registration(const char * name, const char * file, Function function);
};

void fail(const char * file, int line, const std::string & message);
void checked();                         // counts: a test without a single check fails
void skip(const std::string & reason);  // the test ends as skipped; return right after

template <class A, class B>
void check_close(const char * file, int line, const char * expression, A got, B expected, double tolerance) {
    checked();
    // Relative to the larger of 1 and |expected|. NaN fails: every comparison with it is false.
    double limit = tolerance * std::fmax(1.0, std::fabs(double(expected)));
    if (!(std::fabs(double(got) - double(expected)) <= limit)) {
        std::ostringstream text;
        text.precision(9);
        text << expression << ": got " << double(got) << ", expected " << double(expected) << " within " << limit;
        fail(file, line, text.str());
    }
}

}  // namespace vg::test

#define TEST(name)                                                                                                     \
    static void test_##name();                                                                                         \
    static vg::test::Registration registration_##name(#name, __FILE__, test_##name);                                   \
    static void test_##name()

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        vg::test::checked();                                                                                           \
        if (!(condition))                                                                                              \
            vg::test::fail(__FILE__, __LINE__, "expected " #condition);                                                \
    } while (0)

#define CHECK_CLOSE(got, expected, tolerance)                                                                          \
    vg::test::check_close(__FILE__, __LINE__, #got, (got), (expected), (tolerance))

// The statement must throw vg::Error with this code.
#define CHECK_ERROR(statement, expected_code)                                                                          \
    do {                                                                                                               \
        vg::test::checked();                                                                                           \
        try {                                                                                                          \
            statement;                                                                                                 \
            vg::test::fail(__FILE__, __LINE__, #statement " did not throw " expected_code);                            \
        } catch (const vg::Error & error_) {                                                                           \
            if (error_.code != expected_code)                                                                          \
                vg::test::fail(__FILE__, __LINE__, #statement " threw " + error_.code + ": " + error_.what());         \
        }                                                                                                              \
    } while (0)
