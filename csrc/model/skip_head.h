// The task head that MoLFormer was published with (Ross et al. 2022): two dense layers, each with a
// connection around it, then the outputs. Float32.
#pragma once
#include "model/head.h"

namespace moltide {

// a.input (N, C) -> a.hidden, what the outputs read.
void skip_head_forward(const PassContext& pass, Head& head, const HeadActivations& a);
// a.dhidden -> a.dinput; gradients of the dense layers +=.
void skip_head_backward(const PassContext& pass, Head& head, const HeadActivations& a);

}  // namespace moltide
