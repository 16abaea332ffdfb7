// Ten lines of C++: advantages and returns of two episodes of three steps.
#include <cstdio>
#include <vector>

#include "legato/rft.hpp"

int main() {
  const std::vector<double> rewards{0, 0, 1, 0, 2, 0}, values(6, 0.5), last(2, 0.0);
  std::vector<double> advantages(6), returns(6);
  const legato::Status status =
      legato::rft::gae(rewards, values, {}, last, 2, /*gamma=*/0.99, /*lambda=*/0.95, advantages, returns);
  if (status != legato::Status::ok) return std::puts(legato::status_text(status)), 1;
  for (double advantage : advantages) std::printf("%.17g\n", advantage);
}
