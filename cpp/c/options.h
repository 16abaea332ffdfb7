// What both files of the C face do with options that grow: their `size` says how much of them a caller's header knew.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

namespace legato::c {

/// Whether a struct of so many bytes may be an Options of this library's header or of an older one, with fewer fields.
template <class Options>
bool is_known(std::size_t size) {
  return size > sizeof(std::size_t) && size <= sizeof(Options) && size % alignof(std::size_t) == 0;
}

/// The caller's options as this library has them: what the caller's header does not have is as in `options`, the
/// defaults. Nothing where they are missing, or of a size that no header had so far.
template <class Options>
std::optional<Options> read(const Options* given, Options options) {
  if (given == nullptr || !is_known<Options>(given->size)) return std::nullopt;
  std::memcpy(&options, given, given->size);
  options.size = sizeof options;
  return options;
}

/// Hands the defaults to a caller whose struct has `size` bytes. One that is larger than this library's gets a size
/// that every call refuses.
template <class Options>
void write(Options options, Options* to, std::size_t size) {
  if (to == nullptr || size < sizeof size) return;
  options.size = is_known<Options>(size) ? size : 0;
  std::memcpy(to, &options, std::min(size, sizeof options));
}

}  // namespace legato::c
