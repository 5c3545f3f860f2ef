#include "mapped_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

namespace vg {

namespace {

[[noreturn]] void fail(const std::string & path, const std::string & what, const std::string & hint) {
    throw Error("E_MODEL", path + ": " + what, hint);
}

[[noreturn]] void fail_errno(const std::string & path, int error) {
    switch (error) {
        case ENOENT:
        case ENOTDIR:
            fail(path, "there is no such model file", "check the path, or download the model first");
        case EACCES:
        case EPERM:
            fail(path, "no permission to read this file", "make it readable, for example with chmod u+r");
        default:
            fail(path, std::string("cannot be read: ") + std::strerror(error), "check the path and the disk");
    }
}

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0)
            ::close(fd);
    }
};

}  // namespace

MappedFile::MappedFile(const std::string & path) : path_(path) {
    if (path.empty())
        fail("\"\"", "the path of the model file is empty", "name a file");
    // The system would stop at the NUL and open another file than the one named.
    if (path.find('\0') != std::string::npos)
        fail(path.c_str(), "the path contains a NUL byte", "name a file");

    struct stat info;
    if (::stat(path.c_str(), &info) != 0)
        fail_errno(path, errno);
    if (S_ISDIR(info.st_mode)) {
        fail(path, "expected a model file, found a folder",
             "name the file inside it, for example " + path + "/model.gguf");
    }
    // Opening a pipe would wait for its other end, so this is asked before.
    if (!S_ISREG(info.st_mode))
        fail(path, "expected a model file, found a device or pipe", "save the model to a file first");

    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0)
        fail_errno(path, errno);
    if (::fstat(file.fd, &info) != 0)
        fail_errno(path, errno);
    if (!S_ISREG(info.st_mode))
        fail(path, "expected a model file, found a device or pipe", "save the model to a file first");
    if (info.st_size <= 0)
        fail(path, "the file is empty", "download it again");

    void * address = ::mmap(nullptr, size_t(info.st_size), PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED)
        fail_errno(path, errno);
    data_ = static_cast<const uint8_t *>(address);
    size_ = size_t(info.st_size);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr)
        ::munmap(const_cast<uint8_t *>(data_), size_);
}

}  // namespace vg
