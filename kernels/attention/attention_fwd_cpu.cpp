// Forward: for a group of query blocks, all keys in chunks that are copied once; per tile of keys
// the exponentials of the scores and the product with the values.
#include <math.h>

#include "attention/ahead_cpu.h"
#include "attention/forward_tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kMaxGroup = 8;           // query blocks that share a copy of a chunk of keys
constexpr int64_t kChunkFloats = 1 << 15;  // a chunk of keys and its values: 128 KiB each

struct Memory {
  float *keys, *values;  // (chunk + kPadRows, D)
  float* s;              // (kTileKeys + kPadRows, kLanes)
  ForwardState states[kMaxGroup];

  Memory(int64_t d, int64_t chunk, int64_t group) {
    Carver carver{nullptr};
    for (int pass = 0; pass < 2; ++pass) {
      keys = carver.floats((chunk + kPadRows) * d);
      values = carver.floats((chunk + kPadRows) * d);
      s = carver.floats((kTileKeys + kPadRows) * kLanes);
      for (int64_t g = 0; g < group; ++g) {
        states[g].qt = carver.floats(d * kLanes);
        states[g].ot = carver.floats(d * kLanes);
        states[g].shift = carver.floats(kLanes);
        states[g].sum = carver.floats(kLanes);
      }
      if (pass == 0) carver.allocate();
    }
  }
};

// How a block of queries takes its exponentials. A row's largest score is at least its first and
// its mean, and at most what a ball around the mean of the keys allows that holds them all.
// `shifted`: relative to the larger of the former, or to kRange below the latter: no maxima, no
// rescaling. Too large where all scores are far below the bound, which finish_block notices.
// `online`: relative to the largest score so far.
enum class Pass { shifted, online };
constexpr float kRange = 100.0f;  // exponents of 2 above the shift that sums have room for

// One head of a sequence.
template <class T>
struct Head {
  const AttentionArgs& a;
  const AttentionPiece& piece;
  Blocks blocks;

  Head(const AttentionArgs& args, const AttentionPiece& part)
      : a(args), piece(part), blocks(part.len) {}
  T* row(const AttentionMatrix& x, int64_t i) const {
    return static_cast<T*>(x.data) + (piece.start + i) * x.ld + piece.head * a.head_dim;
  }
};

// Where the keys of a head are; measured when first asked for.
template <class T>
class Keys {
 public:
  explicit Keys(const Head<T>& head) : h_(head) {}

  // (D)
  const float* mean() {
    if (!measured_) measure();
    return mean_;
  }
  // At least the distance of every key from the mean: of the largest in each column.
  float within() {
    if (!measured_) measure();
    return within_;
  }
  // The distance of the farthest.
  float radius() {
    if (radius_ >= 0) return radius_;
    float farthest = 0;
    const T* key = h_.row(h_.a.k, 0);
    for (int64_t i = 0; i < h_.piece.len; ++i, key += h_.a.k.ld) {
      vf squares = {};
      for (int64_t c = 0; c < h_.a.head_dim; c += W) {
        const vf x = away(key, c);
        squares = fma(x, x, squares);
      }
      const float square = reduce_add(squares);
      farthest = square > farthest ? square : farthest;
    }
    return radius_ = sqrtf(farthest);
  }

 private:
  vf away(const T* key, int64_t c) const {
    return load_columns(key + c, h_.a.head_dim - c) - load(mean_ + c);
  }
  void measure() {
    const vf share = set1(1.0f / static_cast<float>(h_.piece.len));
    vf squares = {};
    for (int64_t c = 0; c < h_.a.head_dim; c += W) {
      vf sum = {}, farthest = {};
      const T* key = h_.row(h_.a.k, 0);
      for (int64_t i = 0; i < h_.piece.len; ++i, key += h_.a.k.ld)
        sum += load_columns(key + c, h_.a.head_dim - c);
      store(mean_ + c, share * sum);
      key = h_.row(h_.a.k, 0);
      for (int64_t i = 0; i < h_.piece.len; ++i, key += h_.a.k.ld) {
        const vf x = away(key, c);
        farthest = vmax(x * x, farthest);
      }
      squares += farthest;
    }
    within_ = sqrtf(reduce_add(squares));
    measured_ = true;
  }

  const Head<T>& h_;
  float mean_[256];
  float within_ = 0, radius_ = -1;
  bool measured_ = false;
};

// Sets the shifts. Returns whether `radius` made any row's larger.
template <class T>
bool set_shifts(const Head<T>& h, const ForwardState& state, const float* mean, float radius) {
  bool bounded = false;
  const T* key = h.row(h.a.k, 0);
  for (int v = 0; v < state.vectors; ++v) {
    vf squares = {}, first = {}, center = {};
    for (int64_t c = 0; c < h.a.head_dim; ++c) {
      const vf q = load(state.qt + c * kLanes + v * W);
      squares = fma(q, q, squares);
      first = fma(q, set1(to_float(key[c])), first);
      center = fma(q, set1(mean[c]), center);
    }
    const vf bound = fma(vsqrt(squares), set1(radius * 1.01f), center - set1(kRange));
    const vf least = vmax(center, first), shift = vmax(bound, least);
    bounded |= reduce_max(shift - least) > 0;
    store(state.shift + v * W, shift);
  }
  return bounded;
}

template <class T>
void begin_block(const Head<T>& h, int64_t index, Pass pass, Keys<T>& keys, ForwardState& state) {
  const int64_t d = h.a.head_dim, row = h.blocks.first_row(index), left = h.piece.len - row;
  state.first_row = row;
  state.vectors = h.blocks.width(index);
  state.rows = left < state.vectors * W ? left : state.vectors * W;
  transpose_rows(h.row(h.a.q, row), h.a.q.ld, state.rows, d, h.a.scale_log2e, state.vectors,
                 state.qt);
  std::memset(state.ot, 0, static_cast<size_t>(d) * kLanes * sizeof(float));
  std::memset(state.sum, 0, kLanes * sizeof(float));
  if (pass == Pass::online) {
    for (int i = 0; i < kLanes; ++i) state.shift[i] = -__builtin_inff();
    return;
  }
  // The exact radius costs more, and most scores are small.
  if (set_shifts(h, state, keys.mean(), keys.within()))
    set_shifts(h, state, keys.mean(), keys.radius());
}

// n keys from `first_key`, the block's copies of them and of their values at `keys`, `values`.
void tile(const AttentionArgs& a, const AttentionPiece& piece, const ForwardState& state, Pass pass,
          int64_t first_key, int64_t n, const float* keys, const float* values, float* s) {
  vf rescale[kBlockVectors];
  if (pass == Pass::shifted) {
    tile_exponentials(state, keys, n, a.head_dim, s);
    for (vf& x : rescale) x = set1(1.0f);
  } else {
    vf tile_max[kBlockVectors];
    tile_scores(state, keys, n, a.head_dim, s, tile_max);
    tile_softmax(state, n, s, tile_max, rescale);
  }
  if (a.dropout > 0) {
    const int64_t first_draw = piece.head * a.tokens + piece.start + state.first_row;
    tile_drop(a, first_draw, first_key, n, state.vectors, s);
  }
  tile_output(state, values, n, a.head_dim, s, rescale);
}

// Writes o and lse; false if they are not finite, or if a sum is so small that terms may be
// missing.
template <class T>
bool finish_block(const Head<T>& h, const ForwardState& state) {
  constexpr double kLn2 = 0.69314718055994531;
  constexpr float kLeast = 0x1p-90f, kMost = 0x1p120f, kLargest = 3.4028234663852886e38f;
  const AttentionArgs& a = h.a;
  const int64_t d = a.head_dim;
  float factor[kLanes];
  bool good = true;
  for (int64_t i = 0; i < state.rows; i += W) {
    const vf sum = load(state.sum + i), scale = set1(1.0f / (1.0f - a.dropout)) / sum;
    store(factor + i, scale);
    vi fine = (sum < set1(kMost)) & (sum > set1(kLeast));
    for (int64_t c = 0; c < d; ++c)
      fine &= vabs(scale * load(state.ot + c * kLanes + i)) <= set1(kLargest);
    for (int64_t j = 0; j < W && i + j < state.rows; ++j) good &= fine[j] != 0;
  }
  untranspose_rows(state.ot, factor, state.rows, d, h.row(a.o, state.first_row), a.o.ld);
  if (!a.lse) return good;
  float* lse = a.lse + h.piece.head * a.tokens + h.piece.start + state.first_row;
  for (int64_t i = 0; i < state.rows; ++i)
    lse[i] = static_cast<float>(state.shift[i] * kLn2 + logf(state.sum[i]));
  return good;
}

// Of `count` blocks, bit i: block first + i needs the online softmax.
template <class T>
uint32_t forward_group(const Head<T>& h, Memory& m, int64_t chunk, int64_t first, int64_t count,
                       Pass pass, Keys<T>& keys) {
  const AttentionArgs& a = h.a;
  const int64_t d = a.head_dim, len = h.piece.len;
  for (int64_t g = 0; g < count; ++g) begin_block(h, first + g, pass, keys, m.states[g]);
  for (int64_t key = 0; key < len; key += chunk) {
    const int64_t n = len - key < chunk ? len - key : chunk;
    copy_rows_doubling_last(h.row(a.k, key), a.k.ld, n, d, m.keys);
    copy_rows(h.row(a.v, key), a.v.ld, n, d, m.values, d);
    for (int64_t g = 0; g < count; ++g)
      for (int64_t j = 0; j < n; j += kTileKeys) {
        const int64_t tile_keys = n - j < kTileKeys ? n - j : kTileKeys;
        const ForwardState& state = m.states[g];
        prefetch_after(a, h.piece, state.first_row, state.rows, key + j, tile_keys);
        tile(a, h.piece, state, pass, key + j, tile_keys, m.keys + j * d, m.values + j * d, m.s);
      }
  }
  uint32_t again = 0;
  for (int64_t g = 0; g < count; ++g)
    if (!finish_block(h, m.states[g])) again |= 1u << g;
  return again;
}

template <class T>
void forward(const AttentionArgs& a, const AttentionPiece& piece, Pass pass) {
  const Head<T> h(a, piece);
  const int64_t begin = h.blocks.count * piece.part / piece.parts;
  const int64_t end = h.blocks.count * (piece.part + 1) / piece.parts;
  const int64_t group = end - begin < kMaxGroup ? end - begin : kMaxGroup;
  int64_t chunk = kChunkFloats / a.head_dim / kTileKeys * kTileKeys;
  if (chunk > piece.len) chunk = piece.len;
  Memory m(a.head_dim, chunk, group);
  Keys<T> keys(h);

  for (int64_t first = begin; first < end; first += group) {
    const int64_t count = end - first < group ? end - first : group;
    const uint32_t again = forward_group(h, m, chunk, first, count, pass, keys);
    if (pass == Pass::online) continue;
    for (int64_t g = 0; g < count; ++g)
      if (again >> g & 1) forward_group(h, m, chunk, first + g, 1, Pass::online, keys);
  }
}

}  // namespace

void attention_fwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  a.bf16 ? forward<bf16>(a, piece, Pass::shifted) : forward<float>(a, piece, Pass::shifted);
}

// The online softmax from the start, for what a shifted pass elsewhere could not do.
void attention_fwd_online(const AttentionArgs& a, const AttentionPiece& piece) {
  a.bf16 ? forward<bf16>(a, piece, Pass::online) : forward<float>(a, piece, Pass::online);
}

}  // namespace moltide::MOLTIDE_ISA
