// The first block's queries, keys and values in inference. What enters it is a function of the
// token, so these are projected once for each of the few kinds and handed to all their places: the
// same bits, as a row's do not depend on the others.
#pragma once
#include "model/linear.h"

namespace moltide {

// Fills q, k, v of the first block, before the rotary embedding, from p.x[0]. False, and nothing
// written: the input depends on more than the token (learned positions; masked residues, which
// rescale their sequence; an adapter of some rows), or too few tokens share a kind.
bool project_by_token(const PassContext& pass, const PassActivations& p);

}  // namespace moltide
