// A stream of pairs beside that of tokens (Uni-Mol2: Ji et al. 2024, arXiv:2406.14969): (P, Dp) f32
// for the P pairs of tokens of each sequence, pair (query i, key j) of a sequence of L tokens at
// row j * L + i. Each block's attention takes its bias from it, and after each block but the last
// it is updated by an outer product of the tokens, a triangle product and an MLP.
//
// Sequences go through an update one after the other: what it needs besides the stream is as large
// as the longest one. The backward of an update computes it again from its input.
#pragma once
#include "model/linear.h"
#include "model/pair_activations.h"

namespace moltide {

// Counts and hands out what is below; nothing for encoders without such a stream.
PairStream plan_pair_stream(const EncoderConfig& config, const PassShape& shape, Cursor& cursor);

// Throws std::invalid_argument where the batch lacks what describes its tokens and pairs.
void check_pair_stream(const PassContext& pass);

// Throws for categories of tokens whose pairs have no factor.
void check_categories(const int16_t* token_ids, size_t tokens);

// x (T, C) += what describes the tokens besides their ids; backward: gradients of the tables +=.
void describe_tokens(const PassContext& pass, const Tensor& x);
void describe_tokens_backward(const PassContext& pass, const Tensor& dx);

// The stream before the first block; backward: s.dz is its gradient.
void pair_stream_embed(const PassContext& pass, const PairStream& s);
void pair_stream_embed_backward(const PassContext& pass, const PairStream& s);

// The bias of a layer's attention, in its planes; backward: s.dz += out of s.dplanes.
void pair_stream_bias(const PassContext& pass, int64_t layer, const PairStream& s,
                      const PairPlanes& planes);
void pair_stream_bias_backward(const PassContext& pass, int64_t layer, const PairStream& s,
                               const float* dplanes);

// From layer's stream to the next's, with x (T, C) behind the layer; backward: s.dz in place,
// dx (T, C) +=.
void pair_stream_update(const PassContext& pass, int64_t layer, const PairStream& s,
                        const Tensor& x);
void pair_stream_update_backward(const PassContext& pass, int64_t layer, const PairStream& s,
                                 const Tensor& x, const Tensor& dx);

}  // namespace moltide
