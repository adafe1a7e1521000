// SPDX-License-Identifier: Apache-2.0
#include "nas/network/torch_file.h"

#include <zip.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "nas/core/error.h"

namespace nas {
namespace {

using Kind = PickleValue::Kind;

constexpr std::int64_t kMaxPickleBytes = 256 << 20;
constexpr std::size_t kMaxRank = 16;

/// The element type of a storage class; nullopt for types that no network weight has.
std::optional<DType> storage_dtype(std::string_view name) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {
      {"torch FloatStorage", DType::F32},
      {"torch DoubleStorage", DType::F64},
      {"torch HalfStorage", DType::F16},
      {"torch BFloat16Storage", DType::BF16},
      {"torch LongStorage", DType::I64},
      {"torch IntStorage", DType::I32},
      {"torch ShortStorage", DType::I16},
      {"torch CharStorage", DType::I8},
      {"torch ByteStorage", DType::U8},
      {"torch BoolStorage", DType::Bool}};
  for (const auto& [known, dtype] : kNames) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

/// Runs a pickle's opcodes on a stack of values, as CPython's unpickler does, but calls nothing.
class Unpickler {
 public:
  Unpickler(std::span<const std::byte> bytes,
            const std::string& where,
            std::deque<PickleValue>& values)
      : bytes_(bytes), where_(where), values_(values) {}

  const PickleValue& run() {
    for (;;) {
      const auto code = static_cast<unsigned char>(take(1)[0]);
      if (code == '.') return *pop();
      step(code);
    }
  }

 private:
  template <class... Parts>
  [[noreturn]] void damaged(const Parts&... parts) const {
    fail(ErrorKind::Input, where_, ": damaged pickle at byte ", at_, ": ", parts...);
  }

  std::span<const std::byte> take(std::uint64_t count) {
    if (count > bytes_.size() - at_) damaged("it ends within a value");
    const auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  /// An unsigned little-endian number of `count` bytes.
  std::uint64_t number(std::size_t count) {
    std::uint64_t value = 0;
    std::size_t shift = 0;
    for (const std::byte byte : take(count)) {
      value |= static_cast<std::uint64_t>(byte) << shift;
      shift += 8;
    }
    return value;
  }
  std::string text(std::uint64_t count) {
    const auto part = take(count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::string line() {
    const std::size_t begin = at_;
    while (take(1)[0] != std::byte{'\n'}) {
    }
    return {reinterpret_cast<const char*>(bytes_.data()) + begin, at_ - begin - 1};
  }

  PickleValue* make(Kind kind) {
    values_.emplace_back().kind = kind;
    return &values_.back();
  }
  PickleValue* push(Kind kind) {
    stack_.push_back(make(kind));
    return stack_.back();
  }
  void push_integer(std::int64_t value) { push(Kind::Integer)->integer = value; }
  void push_text(Kind kind, std::string value) { push(kind)->text = std::move(value); }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleValue* top() {
    if (stack_.size() <= floor()) damaged("its stack is empty");
    return stack_.back();
  }
  PickleValue* pop() {
    PickleValue* value = top();
    stack_.pop_back();
    return value;
  }
  /// What was pushed since the last mark.
  std::vector<PickleValue*> pop_to_mark() {
    if (marks_.empty()) damaged("it closes a group that was not opened");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleValue*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_items(Kind kind, const std::vector<PickleValue*>& items) {
    push(kind)->items.assign(items.begin(), items.end());
  }
  void tuple(std::size_t count) {
    std::vector<PickleValue*> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_items(Kind::Tuple, items);
  }
  /// Adds to the list, dict or object on top of the stack; what objects take is forgotten.
  void add(const std::vector<PickleValue*>& items, Kind kind) {
    if (kind == Kind::Dict && items.size() % 2 != 0) damaged("a key without a value");
    PickleValue* target = top();
    if (target->kind == kind) {
      target->items.insert(target->items.end(), items.begin(), items.end());
    } else if (target->kind != Kind::Opaque) {
      damaged("items for something that holds none");
    }
  }
  void remember(std::uint64_t index) { memo_[index] = top(); }
  void recall(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) damaged("it refers to value ", index, ", which is not there");
    stack_.push_back(found->second);
  }

  /// ("storage", class, key, device, elements) -> a tensor of one axis over the whole storage.
  void push_storage(const PickleValue& id) {
    const auto& part = id.items;
    const bool known = id.kind == Kind::Tuple && part.size() >= 5 && part[0]->kind == Kind::Text &&
                       part[0]->text == "storage" && part[1]->kind == Kind::Global &&
                       part[2]->kind == Kind::Text && part[4]->kind == Kind::Integer;
    const auto dtype = known ? storage_dtype(part[1]->text) : std::nullopt;
    if (!dtype) {
      push_text(Kind::Opaque, "storage");
      return;
    }
    auto tensor = std::make_unique<PickledTensor>();
    tensor->storage = part[2]->text;
    tensor->dtype = *dtype;
    tensor->shape = {part[4]->integer};
    tensor->stride = {1};
    push(Kind::Tensor)->tensor = std::move(tensor);
  }

  std::optional<std::vector<std::int64_t>> integers(const PickleValue& value) const {
    if (value.kind != Kind::Tuple || value.items.size() > kMaxRank) return std::nullopt;
    std::vector<std::int64_t> result;
    for (const PickleValue* item : value.items) {
      if (item->kind != Kind::Integer || item->integer < 0) return std::nullopt;
      result.push_back(item->integer);
    }
    return result;
  }
  /// torch's rebuilder: (storage, offset, size, stride, ...).
  void push_tensor(const PickleValue& arguments) {
    const auto& part = arguments.items;
    if (part.size() >= 4 && part[0]->kind == Kind::Tensor && part[1]->kind == Kind::Integer &&
        part[1]->integer >= 0) {
      auto shape = integers(*part[2]);
      auto stride = integers(*part[3]);
      if (shape && stride && shape->size() == stride->size()) {
        auto tensor = std::make_unique<PickledTensor>(*part[0]->tensor);
        tensor->offset = part[1]->integer;
        tensor->shape = std::move(*shape);
        tensor->stride = std::move(*stride);
        push(Kind::Tensor)->tensor = std::move(tensor);
        return;
      }
    }
    push_text(Kind::Opaque, "tensor");
  }

  /// Stands for a call: known ones give their value, others Opaque.
  void call() {
    const PickleValue* arguments = pop();
    const PickleValue* callee = pop();
    const std::string& name = callee->text;
    const bool known = callee->kind == Kind::Global && arguments->kind == Kind::Tuple;
    if (known && name == "collections OrderedDict" && arguments->items.empty()) {
      push(Kind::Dict);
    } else if (known && name == "torch._utils _rebuild_tensor_v2") {
      push_tensor(*arguments);
    } else if (known && !arguments->items.empty() &&
               (name == "torch._utils _rebuild_parameter" || name == "torch Size" ||
                name.starts_with("torch.jit._pickle "))) {
      // Values that are wrapped to carry their type.
      stack_.push_back(const_cast<PickleValue*>(arguments->items.front()));
    } else {
      push_text(Kind::Opaque, name);
    }
  }

  /// Constants, numbers and texts. \returns false, like the next three, on a code that is another's.
  bool value_step(unsigned char code) {
    switch (code) {
      case 'N':
        push(Kind::None);
        break;
      case 0x88:
      case 0x89:
        push(Kind::Bool)->integer = code == 0x88 ? 1 : 0;
        break;
      case 'J':
        push_integer(static_cast<std::int32_t>(static_cast<std::uint32_t>(number(4))));
        break;
      case 'K':
        push_integer(static_cast<std::int64_t>(number(1)));
        break;
      case 'M':
        push_integer(static_cast<std::int64_t>(number(2)));
        break;
      case 0x8a: {  // LONG1: two's complement
        const std::uint64_t count = number(1);
        if (count > 8) {
          take(count);
          push_text(Kind::Opaque, "long integer");
          break;
        }
        const std::uint64_t bits = number(count);
        const unsigned unused = 64 - 8 * static_cast<unsigned>(count);
        push_integer(count == 0 ? 0 : static_cast<std::int64_t>(bits << unused) >> unused);
        break;
      }
      case 'G': {  // BINFLOAT: big endian
        std::uint64_t bits = 0;
        for (const std::byte byte : take(8)) bits = bits << 8 | static_cast<std::uint64_t>(byte);
        push(Kind::Real)->real = std::bit_cast<double>(bits);
        break;
      }
      case 'X':
      case 'T':
        push_text(Kind::Text, text(number(4)));
        break;
      case 0x8c:
      case 'U':
        push_text(Kind::Text, text(number(1)));
        break;
      case 0x8d:
        push_text(Kind::Text, text(number(8)));
        break;
      case 'B':
      case 'C':
      case 0x8e:
      case 0x96:
        take(number(code == 'C' ? 1 : code == 'B' ? 4 : 8));
        push_text(Kind::Opaque, "bytes");
        break;
      default:
        return false;
    }
    return true;
  }

  /// Lists, tuples, dictionaries and sets.
  bool collection_step(unsigned char code) {
    switch (code) {
      case ']':
        push(Kind::List);
        break;
      case ')':
        push(Kind::Tuple);
        break;
      case '}':
        push(Kind::Dict);
        break;
      case 0x8f:
        push_text(Kind::Opaque, "set");
        break;
      case 'a': {
        PickleValue* item = pop();
        add({item}, Kind::List);
        break;
      }
      case 's': {
        PickleValue* value = pop();
        PickleValue* key = pop();
        add({key, value}, Kind::Dict);
        break;
      }
      case 'e':
        add(pop_to_mark(), Kind::List);
        break;
      case 'u':
        add(pop_to_mark(), Kind::Dict);
        break;
      case 0x90:  // ADDITEMS of a set
        pop_to_mark();
        break;
      case 0x91:  // FROZENSET
        pop_to_mark();
        push_text(Kind::Opaque, "frozenset");
        break;
      case 'l':
        push_items(Kind::List, pop_to_mark());
        break;
      case 't':
        push_items(Kind::Tuple, pop_to_mark());
        break;
      case 'd': {
        const auto items = pop_to_mark();
        if (items.size() % 2 != 0) damaged("a key without a value");
        push_items(Kind::Dict, items);
        break;
      }
      case 0x85:
      case 0x86:
      case 0x87:
        tuple(code - 0x84U);
        break;
      default:
        return false;
    }
    return true;
  }

  /// Globals, calls of them, and storages.
  bool object_step(unsigned char code) {
    switch (code) {
      case 'c': {
        const std::string module = line();
        push_text(Kind::Global, module + " " + line());
        break;
      }
      case 0x93: {  // STACK_GLOBAL
        const PickleValue* name = pop();
        const PickleValue* module = pop();
        push_text(Kind::Global, (module->text + " " + name->text).substr(0, 200));
        break;
      }
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        call();
        break;
      case 0x92:  // NEWOBJ_EX: keyword arguments too
        pop();
        call();
        break;
      case 'b':  // BUILD: state of an object
        pop();
        top();
        break;
      case 'Q':
        push_storage(*pop());
        break;
      default:
        return false;
    }
    return true;
  }

  /// The frame, the stack and the memo.
  bool stack_step(unsigned char code) {
    switch (code) {
      case 0x80:  // PROTO
        if (const auto version = number(1); version > 5) damaged("protocol ", version);
        break;
      case 0x95:  // FRAME
        number(8);
        break;
      case '(':
        marks_.push_back(stack_.size());
        break;
      case '0':
        pop();
        break;
      case '1':
        pop_to_mark();
        break;
      case '2':
        stack_.push_back(top());
        break;
      case 'q':
        remember(number(1));
        break;
      case 'r':
        remember(number(4));
        break;
      case 0x94:
        remember(memo_.size());
        break;
      case 'h':
        recall(number(1));
        break;
      case 'j':
        recall(number(4));
        break;
      default:
        return false;
    }
    return true;
  }

  void step(unsigned char code) {
    if (value_step(code) || collection_step(code) || object_step(code) || stack_step(code)) return;
    damaged("operation ", static_cast<int>(code), " is not one that torch.save uses");
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  const std::string& where_;
  std::deque<PickleValue>& values_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
};

}  // namespace

const PickleValue& read_pickle(std::span<const std::byte> bytes,
                               const std::string& where,
                               std::deque<PickleValue>& values) {
  return Unpickler(bytes, where, values).run();
}

const PickleValue* PickleValue::find(std::string_view key) const {
  if (kind != Kind::Dict) return nullptr;
  for (std::size_t i = items.size(); i >= 2; i -= 2) {
    if (items[i - 2]->kind == Kind::Text && items[i - 2]->text == key) return items[i - 1];
  }
  return nullptr;
}

/// The zip archive. torch stores its entries without compression, so no entry can be larger than
/// the file.
struct TorchFile::Archive {
  zip_t* zip = nullptr;
  std::string prefix;  // folder of all entries, "archive/"
  std::uint64_t file_bytes = 0;

  Archive(std::span<const std::byte> bytes, const std::string& where) : file_bytes(bytes.size()) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    if (source != nullptr) {
      zip = zip_open_from_source(source, ZIP_RDONLY, &error);
      if (zip == nullptr) zip_source_free(source);
    }
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    NAS_CHECK(zip != nullptr,
              where,
              ": expected a file of torch.save (a zip archive; older formats must be saved anew), ",
              reason);
  }
  ~Archive() {
    if (zip != nullptr) zip_discard(zip);
  }
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  std::vector<std::byte> entry(zip_uint64_t index,
                               const std::string& name,
                               const std::string& where) const {
    zip_stat_t info;
    zip_stat_init(&info);
    const bool known = zip_stat_index(zip, index, 0, &info) == 0 &&
                       (info.valid & ZIP_STAT_SIZE) != 0 && (info.valid & ZIP_STAT_COMP_SIZE) != 0;
    NAS_CHECK(known, where, ": entry ", name, ": its size is not known");
    NAS_CHECK(info.comp_method == ZIP_CM_STORE && info.encryption_method == ZIP_EM_NONE &&
                  info.size == info.comp_size && info.size <= file_bytes,
              where,
              ": entry ",
              name,
              ": expected an entry without compression, no larger than the file");
    std::vector<std::byte> content(info.size);
    zip_file_t* file = zip_fopen_index(zip, index, 0);
    NAS_CHECK(file != nullptr, where, ": entry ", name, ": ", zip_strerror(zip));
    // One byte more than there is: libzip compares the checksum at the end of the entry.
    std::byte more;
    const zip_int64_t count = zip_fread(file, content.data(), content.size());
    const zip_int64_t rest = zip_fread(file, &more, 1);
    const std::string reason = zip_file_strerror(file);
    zip_fclose(file);
    NAS_CHECK(count == static_cast<zip_int64_t>(content.size()) && rest == 0,
              where,
              ": entry ",
              name,
              " is damaged: ",
              reason);
    return content;
  }
  std::vector<std::byte> entry(const std::string& name, const std::string& where) const {
    const zip_int64_t index = zip_name_locate(zip, (prefix + name).c_str(), 0);
    NAS_CHECK(index >= 0, where, ": entry ", prefix, name, " is missing");
    return entry(static_cast<zip_uint64_t>(index), name, where);
  }
};

TorchFile::TorchFile(const std::filesystem::path& file) : where_(file.string()) {
  map_.emplace(file);
  read(map_->bytes());
}

TorchFile::TorchFile(std::span<const std::byte> bytes, std::string where)
    : where_(std::move(where)) {
  read(bytes);
}

TorchFile::~TorchFile() = default;

void TorchFile::read(std::span<const std::byte> bytes) {
  archive_ = std::make_unique<Archive>(bytes, where_);
  constexpr std::string_view kPickle = "data.pkl";
  bool found = false;
  const zip_int64_t entries = zip_get_num_entries(archive_->zip, 0);
  for (zip_int64_t i = 0; i < entries && !found; ++i) {
    const char* name = zip_get_name(archive_->zip, static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
    const std::string_view text = name != nullptr ? name : "";
    const std::size_t slash = text.rfind('/');
    found = slash != std::string_view::npos && text.substr(slash + 1) == kPickle;
    if (found) archive_->prefix = text.substr(0, slash + 1);
  }
  NAS_CHECK(found, where_, ": expected a file of torch.save; there is no entry data.pkl in it");
  if (zip_name_locate(archive_->zip, (archive_->prefix + "byteorder").c_str(), 0) >= 0) {
    const std::vector<std::byte> order = archive_->entry("byteorder", where_);
    const std::string text(reinterpret_cast<const char*>(order.data()),
                           std::min<std::size_t>(order.size(), 16));
    NAS_CHECK(text == "little", where_, ": expected byte order little, found ", text);
  }
  const std::vector<std::byte> pickle = archive_->entry(std::string(kPickle), where_);
  NAS_CHECK(static_cast<std::int64_t>(pickle.size()) <= kMaxPickleBytes,
            where_,
            ": expected at most ",
            kMaxPickleBytes,
            " bytes of structure, found ",
            pickle.size());
  root_ = &read_pickle(pickle, where_, values_);
}

std::vector<float> TorchFile::floats(const PickleValue& value) const {
  NAS_CHECK(value.kind == Kind::Tensor && value.tensor, where_, ": expected a tensor");
  const PickledTensor& tensor = *value.tensor;
  const std::string name = "data/" + tensor.storage;
  const std::vector<std::byte> storage = archive_->entry(name, where_);
  const std::size_t width = bytes_per_element(tensor.dtype);
  const auto stored = static_cast<std::int64_t>(storage.size() / width);
  // The last element must lie inside, and a tensor must not repeat elements to look larger than its
  // storage.
  std::int64_t count = 1, last = tensor.offset;
  bool fits = tensor.offset <= stored;
  for (std::size_t i = 0; i < tensor.shape.size() && fits; ++i) {
    std::int64_t reach = 0;
    fits = !__builtin_mul_overflow(count, tensor.shape[i], &count) && count <= stored &&
           !__builtin_mul_overflow(
               std::max<std::int64_t>(tensor.shape[i] - 1, 0), tensor.stride[i], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  NAS_CHECK(fits && (count == 0 || last < stored),
            where_,
            ": entry ",
            name,
            ": a tensor reaches beyond its ",
            stored,
            " elements");
  std::vector<std::byte> dense(static_cast<std::size_t>(count) * width);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t from = tensor.offset;
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(dense.data() + static_cast<std::size_t>(i) * width,
                storage.data() + static_cast<std::size_t>(from) * width,
                width);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      from += tensor.stride[axis];
      if (++index[axis] < tensor.shape[axis]) break;
      from -= tensor.stride[axis] * tensor.shape[axis];
      index[axis] = 0;
    }
  }
  return to_floats({tensor.dtype, tensor.shape, dense});
}

}  // namespace nas
