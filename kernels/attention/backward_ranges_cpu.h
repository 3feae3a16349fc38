// What a task of the backward looks at.
#pragma once
#include "attention/pack_cpu.h"

namespace moltide::MOLTIDE_ISA {

// Which blocks of queries and which keys a task looks at: a part of the queries for dq alone, a
// part of the keys for dk and dv alone.
struct Ranges {
  int64_t block_begin, block_end, key_begin, key_end;

  Ranges(const AttentionPiece& piece, const Blocks& blocks, int64_t tile_keys)
      : block_begin(0), block_end(blocks.count), key_begin(0), key_end(piece.len) {
    const int64_t tiles = (piece.len + tile_keys - 1) / tile_keys;
    if (piece.task == AttentionTask::dq) {
      block_begin = blocks.count * piece.part / piece.parts;
      block_end = blocks.count * (piece.part + 1) / piece.parts;
    }
    if (piece.task == AttentionTask::dkv) {
      key_begin = tiles * piece.part / piece.parts * tile_keys;
      if (piece.part + 1 < piece.parts)
        key_end = tiles * (piece.part + 1) / piece.parts * tile_keys;
    }
  }
};

}  // namespace moltide::MOLTIDE_ISA
