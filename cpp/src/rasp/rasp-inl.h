// Every pair, in blocks: the route for any formula, compiled once for each instruction set (AVX2 compares 64-bit
// integers, SSE2 does not). Integers only, so the bits do not depend on the width.
namespace legato::LEGATO_REGION {

using legato::rasp::Compare;
using legato::rasp::kAnd;
using legato::rasp::kFormulaDepth;
using legato::rasp::kOr;
using legato::rasp::Table;
using legato::rasp::Term;

constexpr std::size_t kBlock = 256;  // keys looked at together: the masks of a formula stay in the first cache
using Mask = std::int64_t;           // 0 or -1, as wide as a key

/// False where a predicate of the caller failed.
inline bool compare_block(const Term& term, const std::int64_t* key, std::int64_t query, std::size_t count,
                          Mask* mask) {
  switch (term.compare) {
    case Compare::equal:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] == query);
      break;
    case Compare::not_equal:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] != query);
      break;
    case Compare::less:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] < query);
      break;
    case Compare::less_equal:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] <= query);
      break;
    case Compare::greater:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] > query);
      break;
    case Compare::greater_equal:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -static_cast<Mask>(key[j] >= query);
      break;
    case Compare::always:
      for (std::size_t j = 0; j < count; ++j) mask[j] = -1;
      break;
    case Compare::never:
      for (std::size_t j = 0; j < count; ++j) mask[j] = 0;
      break;
    case Compare::called:
      for (std::size_t j = 0; j < count; ++j) {
        const std::uint8_t answer = term.predicate(key[j], query);
        if (answer > 1) return false;
        mask[j] = -static_cast<Mask>(answer);
      }
      break;
  }
  return true;
}

/// One row of a batch; false where a predicate of the caller failed, and the rest of the row is left alone. Emit is
/// called as emit(i, count, sum) or emit.best(i, any, best).
template <class Emit>
bool formula_row(std::size_t n, bool causal, std::size_t offset, std::span<const Term> terms,
                 std::span<const Table> tables, std::span<const int> formula, const std::int64_t* value, int kind,
                 bool wide, const Emit& emit) {
  note_isa(LEGATO_REGION_ISA);
  alignas(64) Mask masks[kFormulaDepth][kBlock];
  const std::int64_t flip = kind == 3 ? -1 : 0;              // min x = ~ max ~x
  const std::size_t asked = (std::size_t{1} << 16) / n + 1;  // queries from one question to the next
  for (std::size_t i = 0; i < n; ++i) {
    if (i % asked == 0 && cancelled()) return true;  // the caller's outcome says so
    const std::size_t end = causal ? i + 1 : n;
    std::int64_t count = 0, sum = 0, best = INT64_MIN;
    rasp::Int128 wide_sum = 0;
    for (std::size_t begin = 0; begin < end; begin += kBlock) {
      const std::size_t m = std::min(kBlock, end - begin);
      std::size_t top = 0;
      for (const int code : formula) {
        if (code >= 0) {
          Mask* mask = masks[top++];
          const auto t = static_cast<std::size_t>(code);
          if (t < terms.size()) {
            const Term& term = terms[t];
            const bool bare = term.compare == Compare::always || term.compare == Compare::never;
            if (!compare_block(term, bare ? nullptr : term.key.data() + offset + begin,
                               bare ? 0 : term.query[offset + i], m, mask)) {
              return false;
            }
          } else {
            const Table& table = tables[t - terms.size()];
            const std::int32_t q = table.query[offset + i];
            const std::int32_t* key = table.key.data() + offset + begin;
            for (std::size_t j = 0; j < m; ++j) {
              mask[j] = q < 0 ? 0
                              : -static_cast<Mask>(table.truth[static_cast<std::size_t>(key[j]) * table.queries +
                                                               static_cast<std::size_t>(q)]);
            }
          }
        } else if (code == kAnd) {
          --top;
          for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] &= masks[top][j];
        } else if (code == kOr) {
          --top;
          for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] |= masks[top][j];
        } else {
          for (std::size_t j = 0; j < m; ++j) masks[top - 1][j] = ~masks[top - 1][j];
        }
      }
      const Mask* mask = masks[0];
      for (std::size_t j = 0; j < m; ++j) count -= mask[j];
      if (kind == 0) continue;
      const std::int64_t* v = value + offset + begin;
      if (kind == 1 && wide) {
        for (std::size_t j = 0; j < m; ++j) wide_sum += v[j] & mask[j];
      } else if (kind == 1) {
        for (std::size_t j = 0; j < m; ++j) sum += v[j] & mask[j];
      } else {
        for (std::size_t j = 0; j < m; ++j) {
          const std::int64_t x = mask[j] != 0 ? v[j] ^ flip : INT64_MIN;
          best = x > best ? x : best;
        }
      }
    }
    if (kind < 2) {
      emit(i, count, wide ? wide_sum : rasp::Int128{sum});
    } else {
      emit.best(i, count, best);
    }
  }
  return true;
}

}  // namespace legato::LEGATO_REGION
