// Eight numbers at a time, in whatever registers there are: part of buckets-inl.h and dominance-inl.h, which include it
// in each region.
namespace legato::LEGATO_REGION {

using Eight = std::int64_t __attribute__((vector_size(64), may_alias));
using EightPairs = std::uint64_t __attribute__((vector_size(64), may_alias));
using EightIds = std::int32_t __attribute__((vector_size(32), may_alias));

inline constexpr struct From {  // [place]: -1 for it and those after it
  alignas(64) std::int64_t wide[9][8];
  alignas(32) std::int32_t narrow[9][8];
  constexpr From() : wide{}, narrow{} {
    for (int place = 0; place < 9; ++place) {
      for (int at = place; at < 8; ++at) wide[place][at] = narrow[place][at] = -1;
    }
  }
} kFrom;

}  // namespace legato::LEGATO_REGION
