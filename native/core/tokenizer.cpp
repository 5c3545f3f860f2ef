#include "tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "error.h"
#include "gguf_reader.h"
#include "quoted.h"
#include "token_table.h"
#include "utf8.h"

namespace vg {

namespace {

const std::string_view space_mark = "\xe2\x96\x81";  // U+2581, what SentencePiece writes for a space

const char * const tokenizer_hint = "convert the model again with its tokenizer, or choose another file";

// Token types, as numbered in the format.
enum TokenType : uint8_t { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    size_t at = 0;
    for (size_t hit; (hit = text.find(from, at)) != std::string_view::npos; at = hit + from.size()) {
        out.append(text, at, hit - at).append(to);
    }
    return out.append(text, at, text.size() - at);
}

// Value of a byte token such as "<0x0A>", -1 for another text.
int byte_value(std::string_view text) {
    const auto digit = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                      : -1;
    };
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>')
        return -1;
    const int high = digit(text[3]), low = digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

struct Tokenizer::Impl {
    std::vector<std::string> texts;   // [V] as in the file
    std::vector<std::string> pieces;  // [V] the bytes a token adds to the text
    std::vector<float> scores;        // [V] what is merged first
    std::vector<uint8_t> types;       // [V] TokenType
    TokenTable by_text;
    TokenTrie specials;    // control, unknown and user-defined tokens, matched before the rest
    CharPairs neighbours;  // characters that stand side by side in some token that merges make
    std::array<int32_t, 256> byte_ids;
    int32_t bos = -1, eos = -1, eot = -1, unk = -1;
    bool add_bos = true;
    bool add_space_prefix = true;

    void load(const GgufFile & file);
    void load_special_ids(const GgufFile & file);
    void check_bytes(const GgufFile & file) const;
    void index(const GgufFile & file);

    // What merging may produce. Text alone must never become a control or byte token.
    bool mergeable(int32_t id) const { return types[size_t(id)] == NORMAL || types[size_t(id)] == USER_DEFINED; }

    void encode_plain(std::string_view text, std::vector<int32_t> & out) const;

    struct Symbol {
        int32_t prev, next;    // -1 at the ends
        uint32_t begin, size;  // bytes of the text; size 0 once merged into its left neighbour
        int32_t id;            // its token, -1 where it is none
    };
    struct Merge {
        float score;
        int32_t left, right;  // symbols
        uint32_t size;        // of both together when this was found: another size means it is out of date
        int32_t id;
        // The best score first, then the leftmost.
        bool operator<(const Merge & o) const { return score < o.score || (score == o.score && left > o.left); }
    };
    void merge(std::string_view text, std::vector<Symbol> & symbols, std::vector<Merge> & heap,
               std::vector<int32_t> & out) const;
};

// ---- loading ----

void Tokenizer::Impl::load(const GgufFile & file) {
    const auto fail = [&](const std::string & problem) {
        throw Error("E_MODEL", file.path() + ": " + problem, tokenizer_hint);
    };
    for (const char * key :
         {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
        if (!file.has(key))
            fail("this file has no tokenizer that can be used: the key " + std::string(key) + " is missing");
    }
    const std::string model = file.get_string("tokenizer.ggml.model");
    if (model != "llama")
        fail("the tokenizer is of the kind " + quoted(model) +
             ", expected SentencePiece (\"llama\") as Gemma 3 has it");

    texts = file.get_strings("tokenizer.ggml.tokens");
    scores = file.get_floats("tokenizer.ggml.scores");
    const std::vector<int64_t> kinds = file.get_ints("tokenizer.ggml.token_type");
    if (texts.empty() || texts.size() > size_t(INT32_MAX))
        fail("tokenizer.ggml.tokens has " + std::to_string(texts.size()) + " tokens");
    for (const auto & [key, n] :
         {std::pair<const char *, size_t>{"scores", scores.size()}, {"token_type", kinds.size()}}) {
        if (n != texts.size()) {
            fail(std::string("tokenizer.ggml.") + key + " has " + std::to_string(n) + " values for " +
                 std::to_string(texts.size()) + " tokens");
        }
    }
    types.resize(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
        if (kinds[i] < NORMAL || kinds[i] > BYTE) {
            fail("token " + std::to_string(i) + " has the type " + std::to_string(kinds[i]) + ", expected 1 to 6");
        }
        if (!std::isfinite(scores[i]))
            fail("the score of token " + std::to_string(i) + " is not a finite number");
        types[i] = uint8_t(kinds[i]);
    }
    load_special_ids(file);
    index(file);
    check_bytes(file);
}

void Tokenizer::Impl::load_special_ids(const GgufFile & file) {
    const auto id = [&](const char * name) {
        const std::string key = std::string("tokenizer.ggml.") + name;
        const int64_t value = file.get_int(key, -1);
        if (file.has(key) && (value < 0 || value >= int64_t(texts.size()))) {
            throw Error("E_MODEL",
                        file.path() + ": " + key + " is " + std::to_string(value) + ", the vocabulary has " +
                            std::to_string(texts.size()) + " tokens",
                        tokenizer_hint);
        }
        return int32_t(value);
    };
    bos = id("bos_token_id");
    eos = id("eos_token_id");
    eot = id("eot_token_id");
    unk = id("unknown_token_id");
    add_bos = file.get_bool("tokenizer.ggml.add_bos_token", true) && bos >= 0;
    add_space_prefix = file.get_bool("tokenizer.ggml.add_space_prefix", true);
}

void Tokenizer::Impl::index(const GgufFile & file) {
    by_text.reserve(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
        if (texts[i].empty())
            continue;  // a placeholder: no text stands for it
        const int32_t other = by_text.insert(texts, int32_t(i));
        if (other >= 0) {
            throw Error("E_MODEL",
                        file.path() + ": the tokens " + std::to_string(other) + " and " + std::to_string(i) +
                            " are both " + quoted(texts[i]),
                        tokenizer_hint);
        }
    }
    // Few files name the token that ends a turn by its number.
    if (eot < 0)
        eot = by_text.find(texts, "<end_of_turn>");
    if (eot >= 0)
        types[size_t(eot)] = CONTROL;

    byte_ids.fill(-1);
    pieces.resize(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
        const std::string & text = texts[i];
        switch (types[i]) {
            case BYTE: {
                const int value = byte_value(text);
                if (value < 0) {
                    throw Error("E_MODEL",
                                file.path() + ": the byte token " + std::to_string(i) + " is written " + quoted(text) +
                                    ", expected a form like \"<0x0A>\"",
                                tokenizer_hint);
                }
                byte_ids[size_t(value)] = int32_t(i);
                pieces[i] = std::string(1, char(value));
                break;
            }
            case NORMAL:
                neighbours.add(text);
                pieces[i] = replace_all(text, space_mark, " ");
                break;
            case USER_DEFINED:
                neighbours.add(text);
                pieces[i] = text;
                [[fallthrough]];
            case CONTROL:
            case UNKNOWN:
                if (!text.empty())
                    specials.add(replace_all(text, " ", space_mark), int32_t(i));
                break;
            default:
                break;  // UNUSED: neither read from text nor written to it
        }
    }
}

void Tokenizer::Impl::check_bytes(const GgufFile & file) const {
    const auto missing = std::find(byte_ids.begin(), byte_ids.end(), -1);
    if (missing != byte_ids.end() && unk < 0) {
        throw Error("E_MODEL",
                    file.path() + ": the tokenizer has neither a token for byte " +
                        std::to_string(missing - byte_ids.begin()) + " nor one for unknown text",
                    tokenizer_hint);
    }
}

// ---- encoding ----

// One stretch of text in which merges happen: byte-pair merging by score, as SentencePiece and llama.cpp do it.
void Tokenizer::Impl::merge(std::string_view text, std::vector<Symbol> & symbols, std::vector<Merge> & heap,
                            std::vector<int32_t> & out) const {
    const auto view = [&](const Symbol & s) { return text.substr(s.begin, s.size); };
    const auto offer = [&](int32_t left, int32_t right) {
        if (left < 0 || right < 0)
            return;
        const Symbol & l = symbols[size_t(left)];
        const uint32_t size = l.size + symbols[size_t(right)].size;
        const int32_t id = by_text.find(texts, text.substr(l.begin, size));
        if (id < 0 || !mergeable(id))
            return;
        heap.push_back({scores[size_t(id)], left, right, size, id});
        std::push_heap(heap.begin(), heap.end());
    };

    heap.clear();
    for (size_t i = 1; i < symbols.size(); ++i)
        offer(int32_t(i - 1), int32_t(i));
    while (!heap.empty()) {
        const Merge best = heap.front();
        std::pop_heap(heap.begin(), heap.end());
        heap.pop_back();
        Symbol & left = symbols[size_t(best.left)];
        Symbol & right = symbols[size_t(best.right)];
        if (left.size == 0 || right.size == 0 || left.size + right.size != best.size)
            continue;
        left.size += right.size;
        left.id = best.id;
        right.size = 0;
        left.next = right.next;
        if (right.next >= 0)
            symbols[size_t(right.next)].prev = best.left;
        offer(left.prev, best.left);
        offer(best.left, left.next);
    }
    for (int32_t i = 0; i >= 0; i = symbols[size_t(i)].next) {
        const Symbol & s = symbols[size_t(i)];
        const int32_t id = s.id >= 0 ? s.id : by_text.find(texts, view(s));
        if (id >= 0 && mergeable(id)) {
            out.push_back(id);
            continue;
        }
        for (const char c : view(s)) {
            const int32_t byte = byte_ids[static_cast<unsigned char>(c)];
            out.push_back(byte >= 0 ? byte : unk);
        }
    }
}

// `text` has its spaces marked. It is cut wherever no token has the two characters side by side: no merge can cross
// such a place, so the pieces are merged one by one with the same result, in memory that stays in the cache.
void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<int32_t> & out) const {
    std::vector<Symbol> symbols;
    std::vector<Merge> heap;
    size_t begin = 0;
    const auto flush = [&](size_t end) {
        if (symbols.empty())
            return;
        symbols.back().next = -1;
        merge(text.substr(begin, end - begin), symbols, heap, out);
        symbols.clear();
        begin = end;
    };
    std::string_view before;
    for (size_t at = 0; at < text.size();) {
        const std::string_view now = text.substr(at, utf8_length(text.substr(at)));
        if (!before.empty() && !neighbours.has(before, now))
            flush(at);
        const auto i = int32_t(symbols.size());
        symbols.push_back({i - 1, i + 1, uint32_t(at - begin), uint32_t(now.size()), -1});
        before = now;
        at += now.size();
    }
    flush(text.size());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_bos, bool parse_special) const {
    const Impl & t = *impl_;
    if (text.size() > size_t(INT32_MAX) / 4)
        throw Error("E_LIMIT", "the text is too long", "shorten it");
    std::vector<int32_t> out;
    if (add_bos && t.bos >= 0)
        out.push_back(t.bos);

    // A space and its mark are the same to SentencePiece, so special tokens are looked for in the marked text too.
    const std::string buffer = replace_all(text, " ", space_mark);
    const std::string_view marked = buffer;
    // The text between special tokens; each stretch begins a word where the vocabulary wants that.
    const auto plain = [&](std::string_view part) {
        if (part.empty())
            return;
        if (t.add_space_prefix)
            t.encode_plain(std::string(space_mark).append(part), out);
        else
            t.encode_plain(part, out);
    };
    size_t begin = 0;
    for (size_t at = 0; at < marked.size();) {
        size_t size = 0;
        const int32_t id = t.specials.longest(marked.substr(at), size, [&](int32_t found) {
            return parse_special || t.types[size_t(found)] == USER_DEFINED;
        });
        if (id < 0) {
            ++at;
            continue;
        }
        plain(marked.substr(begin, at - begin));
        out.push_back(id);
        begin = at += size;
    }
    plain(marked.substr(begin));
    return out;
}

// ---- decoding ----

std::string Tokenizer::decode(const int32_t * tokens, size_t n, bool special) const {
    const Impl & t = *impl_;
    std::string out;
    bool first = true;  // the space that encode put in front is not part of the text
    for (size_t i = 0; i < n; ++i) {
        const auto id = size_t(tokens[i]);
        if (tokens[i] < 0)
            throw Error("E_ARGUMENT", "token " + std::to_string(tokens[i]) + " is negative");
        if (id >= t.texts.size()) {
            // Nothing to write.
        } else if (t.types[id] == CONTROL || t.types[id] == UNKNOWN) {
            if (special)
                out += t.texts[id];
        } else {
            const std::string & p = t.pieces[id];
            out.append(p, first && t.add_space_prefix && !p.empty() && p[0] == ' ' ? 1 : 0);
        }
        if (tokens[i] != t.bos)
            first = false;
    }
    return out;
}

const std::string & Tokenizer::piece(int32_t token) const {
    static const std::string nothing;
    if (token < 0)
        throw Error("E_ARGUMENT", "token " + std::to_string(token) + " is negative");
    return size_t(token) < size() ? impl_->pieces[size_t(token)] : nothing;
}

// ---- the rest ----

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_gguf(const GgufFile & file) {
    auto impl = std::make_unique<Impl>();
    impl->load(file);
    return Tokenizer(std::move(impl));
}

size_t Tokenizer::size() const { return impl_->texts.size(); }
int32_t Tokenizer::bos() const { return impl_->bos; }
int32_t Tokenizer::eos() const { return impl_->eos; }
int32_t Tokenizer::eot() const { return impl_->eot; }
bool Tokenizer::add_bos() const { return impl_->add_bos; }
bool Tokenizer::is_control(int32_t token) const {
    return token >= 0 && size_t(token) < size() && impl_->types[size_t(token)] == CONTROL;
}
int32_t Tokenizer::find(std::string_view text) const { return impl_->by_text.find(impl_->texts, text); }

}  // namespace vg
