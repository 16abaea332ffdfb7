// Every key of a stream, in blocks: compiled once for each instruction set, as rasp-inl.h and for its reason.
namespace legato::LEGATO_REGION {

constexpr std::size_t kStreamBlock = 256;

inline void compared(const rasp::Column& column, std::size_t begin, std::size_t count, std::int64_t* mask) {
  const std::int64_t* key = column.key + begin;
  const std::int64_t query = column.query;
  const auto each = [&](const auto& holds) {
    for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<std::int64_t>(holds(key[j]));
  };
  switch (column.compare) {
    case rasp::Compare::equal:
      return each([&](std::int64_t k) { return k == query; });
    case rasp::Compare::not_equal:
      return each([&](std::int64_t k) { return k != query; });
    case rasp::Compare::less:
      return each([&](std::int64_t k) { return k < query; });
    case rasp::Compare::less_equal:
      return each([&](std::int64_t k) { return k <= query; });
    case rasp::Compare::greater:
      return each([&](std::int64_t k) { return k > query; });
    case rasp::Compare::greater_equal:
      return each([&](std::int64_t k) { return k >= query; });
    default:
      return each([&](std::int64_t) { return column.compare == rasp::Compare::always; });
  }
}

/// Reduces the values of the keys that a formula over the columns selects; value null: counts alone. `wide`: the sum
/// of a block may leave 64 bits.
inline void scan(std::span<const rasp::Column> columns, std::span<const int> formula, std::size_t n,
                 const std::int64_t* value, bool extreme, bool wide, rasp::Found& found) {
  note_isa(LEGATO_REGION_ISA);
  alignas(64) std::int64_t masks[rasp::kFormulaDepth][kStreamBlock];
  for (std::size_t begin = 0; begin < n; begin += kStreamBlock) {
    const std::size_t m = n - begin < kStreamBlock ? n - begin : kStreamBlock;
    std::size_t top = 0;
    for (const int code : formula) {
      if (code >= 0) {
        compared(columns[static_cast<std::size_t>(code)], begin, m, masks[top++]);
      } else if (code == rasp::kNot) {
        for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] = ~masks[top - 1][j];
      } else {
        --top;
        const std::int64_t *a = masks[top - 1], *b = masks[top];
        if (code == rasp::kAnd) {
          for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] = a[j] & b[j];
        } else {
          for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] = a[j] | b[j];
        }
      }
    }
    const std::int64_t* mask = masks[0];
    std::int64_t count = 0;
    for (std::size_t j = 0; j < m; ++j) count -= mask[j];
    found.count += count;
    if (value == nullptr || count == 0) continue;
    const std::int64_t* v = value + begin;
    if (extreme) {
      std::int64_t best = found.best;
      for (std::size_t j = 0; j < m; ++j) {
        const std::int64_t x = mask[j] != 0 ? v[j] : rasp::kNone;
        best = x > best ? x : best;
      }
      found.best = best;
    } else if (wide) {
      for (std::size_t j = 0; j < m; ++j) found.sum += v[j] & mask[j];
    } else {
      std::int64_t sum = 0;
      for (std::size_t j = 0; j < m; ++j) sum += v[j] & mask[j];
      found.sum += sum;
    }
  }
}

}  // namespace legato::LEGATO_REGION
