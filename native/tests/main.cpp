// Runs the registered tests: native-tests [--list] [FILTER]. FILTER is part of a test's name or of its file's name.
// Exits 1 when a test failed, when a test checked nothing, and when none ran.
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "error.h"
#include "test.h"

namespace vg::test {
namespace {

struct Entry {
    std::string name;
    std::string file;
    Function function;
};

std::vector<Entry> & entries() {
    static std::vector<Entry> all;  // built on first use: registrations run before main in any order
    return all;
}

int failures = 0;
int checks = 0;
std::string skip_reason;

std::string base_name(const char * path) {
    const char * slash = std::strrchr(path, '/');
    return slash ? slash + 1 : path;
}

}  // namespace

Registration::Registration(const char * name, const char * file, Function function) {
    entries().push_back({name, base_name(file), function});
}

void fail(const char * file, int line, const std::string & message) {
    failures++;
    std::printf("    %s:%d: %s\n", base_name(file).c_str(), line, message.c_str());
}

void checked() { checks++; }
void skip(const std::string & reason) { skip_reason = reason; }

}  // namespace vg::test

int main(int argc, char ** argv) {
    using namespace vg::test;
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // whole lines even when a test crashes the process
    std::string filter;
    bool list = false;
    for (int i = 1; i < argc; i++) {
        if (std::strcmp(argv[i], "--list") == 0) {
            list = true;
        } else {
            filter = argv[i];
        }
    }

    int passed = 0, failed = 0, skipped = 0;
    for (const Entry & entry : entries()) {
        std::string name = entry.file.substr(0, entry.file.rfind('.')) + ": " + entry.name;
        if (name.find(filter) == std::string::npos) {
            continue;
        }
        if (list) {
            std::printf("%s\n", name.c_str());
            continue;
        }
        failures = 0;
        checks = 0;
        skip_reason.clear();
        try {
            entry.function();
        } catch (const vg::Error & error) {
            fail(entry.file.c_str(), 0, "threw " + error.code + ": " + error.what());
        } catch (const std::exception & error) {
            fail(entry.file.c_str(), 0, std::string("threw ") + error.what());
        }
        if (failures == 0 && checks == 0 && skip_reason.empty()) {
            fail(entry.file.c_str(), 0, "the test checked nothing");
        }
        if (failures > 0) {
            failed++;
            std::printf("not ok  %s\n", name.c_str());
        } else if (!skip_reason.empty()) {
            skipped++;
            std::printf("skip    %s # %s\n", name.c_str(), skip_reason.c_str());
        } else {
            passed++;
            std::printf("ok      %s\n", name.c_str());
        }
    }
    if (list) {
        return 0;
    }
    if (passed + failed + skipped == 0) {
        std::printf("no test matches \"%s\"\n", filter.c_str());
        failed = 1;
    }
    std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed == 0 ? 0 : 1;
}
