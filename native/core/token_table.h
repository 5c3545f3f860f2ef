// The look-ups of the tokenizer: token by text, longest special token at a place, characters that occur side by side.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "utf8.h"

namespace vg {

// Open-addressing hash table from a token's text to its number. The texts stay with their owner.
class TokenTable {
  public:
    void reserve(size_t tokens) {
        size_t slots = 16;
        while (slots < 2 * tokens)
            slots *= 2;
        slots_.assign(slots, {0, -1});
        mask_ = slots - 1;
    }

    // Returns -1, or the number of the token that has this text already.
    int32_t insert(const std::vector<std::string> & texts, int32_t id) {
        const std::string & text = texts[size_t(id)];
        const uint32_t h = hash(text);
        for (size_t i = h & mask_;; i = (i + 1) & mask_) {
            Slot & slot = slots_[i];
            if (slot.id < 0) {
                slot = {h, id};
                return -1;
            }
            if (slot.hash == h && texts[size_t(slot.id)] == text)
                return slot.id;
        }
    }

    int32_t find(const std::vector<std::string> & texts, std::string_view text) const {
        const uint32_t h = hash(text);
        for (size_t i = h & mask_;; i = (i + 1) & mask_) {
            const Slot & slot = slots_[i];
            if (slot.id < 0)
                return -1;
            if (slot.hash == h && texts[size_t(slot.id)] == text)
                return slot.id;
        }
    }

  private:
    struct Slot {
        uint32_t hash;
        int32_t id;  // -1: free
    };

    // FNV-1a with a final mix, since the low bits choose the slot.
    static uint32_t hash(std::string_view text) {
        uint64_t h = 0xcbf29ce484222325u;
        for (const char c : text)
            h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
        h ^= h >> 29;
        h *= 0xbf58476d1ce4e5b9u;
        return uint32_t(h >> 32);
    }

    std::vector<Slot> slots_;
    size_t mask_ = 0;
};

// Prefix tree over the special tokens. A node's children are a list: only the first byte has many.
class TokenTrie {
  public:
    void add(std::string_view text, int32_t id) {
        size_t node = 0;
        for (const char c : text) {
            int32_t child = find(node, c);
            if (child < 0) {
                child = int32_t(nodes_.size());
                nodes_.push_back({-1, -1, nodes_[node].child, c});
                nodes_[node].child = child;
                if (node == 0)
                    first_[static_cast<unsigned char>(c)] = child;
            }
            node = size_t(child);
        }
        nodes_[node].id = id;
    }

    // The longest token that `text` begins with and that is `allowed`, with its size in bytes; -1 without one.
    template <typename Allowed> int32_t longest(std::string_view text, size_t & size, const Allowed & allowed) const {
        int32_t best = -1;
        size_t node = 0;
        for (size_t i = 0; i < text.size(); ++i) {
            const int32_t child = find(node, text[i]);
            if (child < 0)
                break;
            node = size_t(child);
            const int32_t id = nodes_[node].id;
            if (id >= 0 && allowed(id)) {
                best = id;
                size = i + 1;
            }
        }
        return best;
    }

  private:
    struct Node {
        int32_t id;              // token that ends here, -1
        int32_t child, sibling;  // -1 without
        char byte;
    };

    int32_t find(size_t node, char c) const {
        if (node == 0)
            return first_[static_cast<unsigned char>(c)];
        int32_t child = nodes_[node].child;
        while (child >= 0 && nodes_[size_t(child)].byte != c)
            child = nodes_[size_t(child)].sibling;
        return child;
    }

    std::vector<Node> nodes_{{-1, -1, -1, 0}};
    std::vector<int32_t> first_ = std::vector<int32_t>(256, -1);  // children of the root by their byte
};

// Which characters stand side by side in some token. A bitmap by hash: it may say yes for a pair that no token has,
// never no for one that a token has.
class CharPairs {
  public:
    void add(std::string_view token) {
        std::string_view before;
        for (size_t at = 0; at < token.size();) {
            const std::string_view now = token.substr(at, utf8_length(token.substr(at)));
            if (!before.empty())
                set(before, now);
            before = now;
            at += now.size();
        }
    }
    bool has(std::string_view a, std::string_view b) const {
        const uint32_t bit = index(a, b);
        return (bits_[bit / 64] >> (bit % 64) & 1) != 0;
    }

  private:
    static constexpr uint32_t log_bits = 22;  // Gemma's vocabulary has about 10^5 pairs

    void set(std::string_view a, std::string_view b) {
        const uint32_t bit = index(a, b);
        bits_[bit / 64] |= uint64_t{1} << (bit % 64);
    }
    static uint32_t index(std::string_view a, std::string_view b) {
        uint64_t h = 0;
        for (const char c : a)
            h = h << 8 | static_cast<unsigned char>(c);
        for (const char c : b)
            h = h << 8 | static_cast<unsigned char>(c);
        return uint32_t(h * 0x9e3779b97f4a7c15u >> (64 - log_bits));
    }

    std::vector<uint64_t> bits_ = std::vector<uint64_t>(size_t{1} << (log_bits - 6));
};

}  // namespace vg
