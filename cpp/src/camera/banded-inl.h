// Block-banded L D L' of a symmetric positive definite matrix with 8 x 8 blocks and block half-bandwidth 3, and its
// triangular solves. Right-looking over a sliding window of four block columns; one 8-vector is one pack of lanes.
// No pivoting, no allocation. Compiled once per ISA region; needs lanes-inl.h.
namespace legato::LEGATO_REGION {

using math::broadcast;
using math::constant;
using math::Lanes;
using math::sums_of;
constexpr int kBlock = 8;  // variables of a frame
constexpr int kReach = 4;  // a frame couples with itself and three more
// Full unrolling keeps a block column in the 32 wide registers. Narrower sets spill anyway, and compile far longer.
constexpr int kUnroll = LEGATO_REGION_ISA == Isa::avx512 ? 8 : 1;

/// One block column of L: the unit-lower diagonal block with zeros on and above the diagonal, and the three blocks
/// below it; the diagonal block again as rows; 1 / D.
struct Panel {
  Lanes column[kBlock][kReach];
  Lanes row[kBlock];
  Lanes inverse_pivot;
};

/// One block column of the lower triangle: column[c][m] is column c of block (t + m, t).
struct BlockColumn {
  Lanes column[kBlock][kReach];
};

template <int j>
LEGATO_HD void eliminate(const Panel& panel, Lanes& x, Lanes& x1, Lanes& x2, Lanes& x3) {
  const Lanes s = broadcast<j>(x);
  x -= panel.column[j][0] * s;
  x1 -= panel.column[j][1] * s;
  x2 -= panel.column[j][2] * s;
  x3 -= panel.column[j][3] * s;
}

/// One step of forward substitution: r[0] is done, r[1..3] get its share.
LEGATO_HD void forward(const Panel& panel, Lanes* r) {
  Lanes x = r[0], x1 = r[1], x2 = r[2], x3 = r[3];
  eliminate<0>(panel, x, x1, x2, x3);
  eliminate<1>(panel, x, x1, x2, x3);
  eliminate<2>(panel, x, x1, x2, x3);
  eliminate<3>(panel, x, x1, x2, x3);
  eliminate<4>(panel, x, x1, x2, x3);
  eliminate<5>(panel, x, x1, x2, x3);
  eliminate<6>(panel, x, x1, x2, x3);
  eliminate<7>(panel, x, x1, x2, x3);
  r[0] = x;
  r[1] = x1;
  r[2] = x2;
  r[3] = x3;
}

/// Factors n block columns that fetch(t, column) writes one after another (t = 0 .. n-1, blocks past the end zero),
/// and does the forward substitution of r (n packs and room for three more) on the way, while each panel is at hand.
/// Returns false when a pivot was not positive; it is then replaced by infinity, which drops that unknown.
template <class Fetch>
LEGATO_HD bool factor_banded(std::size_t n, Panel* panels, Lanes* r, Fetch&& fetch) {
  r[n] = r[n + 1] = r[n + 2] = Lanes{};
  // window[p].column[c][m]: block (t + p + m, t + p) with the updates of all columns before t applied.
  BlockColumn columns[kReach];
  BlockColumn* window[kReach] = {&columns[0], &columns[1], &columns[2], &columns[3]};
  Lanes below[kBlock];  // ones under the diagonal of column j
  for (int j = 0; j < kBlock; ++j) {
    for (int i = 0; i < kBlock; ++i) below[j][i] = i > j ? 1.0 : 0.0;
  }
  bool positive = true;
  for (int p = 0; p < kReach; ++p) {
    if (static_cast<std::size_t>(p) < n) {
      fetch(static_cast<std::size_t>(p), columns[p]);
    } else {
      columns[p] = BlockColumn{};
    }
  }
  for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
    for (; t < end; ++t) {
      Panel& panel = panels[t];
      Lanes scaled[kBlock][kReach];  // L D
      Lanes work[kBlock][kReach];
#pragma GCC unroll 8
      for (int j = 0; j < kBlock; ++j) {
#pragma GCC unroll 4
        for (int m = 0; m < kReach; ++m) work[j][m] = window[0]->column[j][m];
      }
      alignas(64) double inverse[kBlock];
#pragma GCC unroll kUnroll
      for (int j = 0; j < kBlock; ++j) {
        double pivot = work[j][0][j];
        if (!(pivot > 0)) {
          positive = false;
          pivot = 1e300;
        }
        inverse[j] = 1.0 / pivot;
        const Lanes factor = constant<Lanes>(inverse[j]);
        Lanes unit[kReach];
#pragma GCC unroll 4
        for (int m = 0; m < kReach; ++m) {
          scaled[j][m] = work[j][m];
          unit[m] = work[j][m] * factor;
          if (m > 0) panel.column[j][m] = unit[m];
        }
#pragma GCC unroll 8
        for (int k = j + 1; k < kBlock; ++k) {
          const Lanes l = constant<Lanes>(unit[0][k]);
#pragma GCC unroll 4
          for (int m = 0; m < kReach; ++m) work[k][m] -= scaled[j][m] * l;
        }
        panel.column[j][0] = unit[0] * below[j];
      }
      panel.inverse_pivot = math::load(inverse);
      Lanes unit_block[kBlock];
#pragma GCC unroll 8
      for (int j = 0; j < kBlock; ++j) unit_block[j] = panel.column[j][0];
      math::transpose(unit_block, panel.row);
      forward(panel, r + t);
      // Update the three block columns to the right.
#pragma GCC unroll 3
      for (int p = 1; p < kReach; ++p) {
        BlockColumn& right = *window[p];
#pragma GCC unroll 2
        for (int first = 0; first < kBlock; first += 4) {
          Lanes sum[4][kReach - 1];
#pragma GCC unroll 4
          for (int c = 0; c < 4; ++c) {
#pragma GCC unroll 3
            for (int m = 0; m < kReach - p; ++m) sum[c][m] = right.column[first + c][m];
          }
#pragma GCC unroll kUnroll
          for (int j = 0; j < kBlock; ++j) {
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) {
              const Lanes l = constant<Lanes>(panel.column[j][p][first + c]);
#pragma GCC unroll 3
              for (int m = 0; m < kReach - p; ++m) sum[c][m] -= scaled[j][p + m] * l;
            }
          }
#pragma GCC unroll 4
          for (int c = 0; c < 4; ++c) {
#pragma GCC unroll 3
            for (int m = 0; m < kReach - p; ++m) right.column[first + c][m] = sum[c][m];
          }
        }
      }
      // The column that is done makes room for the next to come in.
      BlockColumn* free = window[0];
      for (int p = 1; p < kReach; ++p) window[p - 1] = window[p];
      window[kReach - 1] = free;
      if (t + kReach < n) {
        fetch(t + kReach, *free);
      } else {
        *free = BlockColumn{};
      }
    }
  }
  return positive;
}

template <int j>
LEGATO_HD void substitute(const Panel& panel, Lanes& x) {
  x -= panel.row[j] * broadcast<j>(x);
}

/// r = L^-1 r; r holds n packs and room for three more.
LEGATO_HD void solve_forward(std::size_t n, const Panel* panels, Lanes* r) {
  r[n] = r[n + 1] = r[n + 2] = Lanes{};
  for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
    for (; t < end; ++t) forward(panels[t], r + t);
  }
}

/// r = L'^-1 D^-1 r.
LEGATO_HD void solve_backward(std::size_t n, const Panel* panels, Lanes* r) {
  r[n] = r[n + 1] = r[n + 2] = Lanes{};
  Lanes x1{}, x2{}, x3{};
  for (std::size_t done = 0, end = 0; goes_on(done, end, n);) {
    for (; done < end; ++done) {
      const std::size_t t = n - 1 - done;
      const Panel& panel = panels[t];
      Lanes below[kBlock];
      for (int j = 0; j < kBlock; ++j) {
        below[j] = panel.column[j][3] * x3 + panel.column[j][2] * x2 + panel.column[j][1] * x1;
      }
      Lanes x = r[t] * panel.inverse_pivot - sums_of(below);
      substitute<7>(panel, x);
      substitute<6>(panel, x);
      substitute<5>(panel, x);
      substitute<4>(panel, x);
      substitute<3>(panel, x);
      substitute<2>(panel, x);
      substitute<1>(panel, x);
      r[t] = x;
      x3 = x2;
      x2 = x1;
      x1 = x;
    }
  }
}

}  // namespace legato::LEGATO_REGION
