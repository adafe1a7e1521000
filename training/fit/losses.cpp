// SPDX-License-Identifier: Apache-2.0
#include "training/fit/losses.h"

#include <cmath>

#include <ATen/Parallel.h>

#include "nas/core/error.h"
#include "training/fit/cuda_losses.h"
#include "training/fit/loss_sums.h"
#include "training/kernels/loss_formulas.h"

namespace nas {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kSlab =
    8192;  // voxels a partial sum covers: fixed, so that sums do not depend on threads

/// Softmax probabilities of one voxel into `p`; returns log of the normaliser (for cross-entropy).
template <class T>
inline T softmax_voxel(const T* logit, std::int64_t stride, std::int64_t classes, T* p) {
  T top = logit[0];
  for (std::int64_t k = 1; k < classes; ++k) top = std::max(top, logit[k * stride]);
  T sum = 0;
  for (std::int64_t k = 0; k < classes; ++k) sum += p[k] = std::exp(logit[k * stride] - top);
  const T inverse = 1 / sum;
  for (std::int64_t k = 0; k < classes; ++k) p[k] *= inverse;
  return std::log(sum) + top;
}

/// Sizes and element strides of logits seen as [N, K, V].
struct Layout {
  std::int64_t samples, classes, voxels, sample_stride, class_stride, voxel_stride;
};

/// `logits` in a form where one stride walks the voxels: NCDHW or NDHWC dense, float or double.
at::Tensor dense_logits(const at::Tensor& logits, Layout& layout) {
  at::Tensor x = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  const bool last = !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast3d);
  if (!last) x = x.contiguous();
  const std::int64_t n = x.size(0), k = x.size(1), v = x.size(2) * x.size(3) * x.size(4);
  layout = {n, k, v, k * v, last ? 1 : v, last ? k : 1};
  return x;
}

template <class T>
LossSums forward_sums(const T* logits, const std::int16_t* target, const Layout& l, T gamma) {
  const std::int64_t slabs = (l.voxels + kSlab - 1) / kSlab, width = 3 * l.classes + 2;
  std::vector<double> partial(static_cast<std::size_t>(l.samples * slabs * width), 0.0);
  at::parallel_for(0, l.samples * slabs, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> p(static_cast<std::size_t>(l.classes));
    for (std::int64_t job = begin; job < end; ++job) {
      const std::int64_t n = job / slabs, first = job % slabs * kSlab;
      const std::int64_t last = std::min(l.voxels, first + kSlab);
      double* sum = partial.data() + job * width;
      double nll = 0;
      std::int64_t count = 0;
      for (std::int64_t v = first; v < last; ++v) {
        const std::int16_t t = target[n * l.voxels + v];
        if (t < 0 || t >= l.classes) continue;
        const T* logit = logits + n * l.sample_stride + v * l.voxel_stride;
        const T normaliser = softmax_voxel(logit, l.class_stride, l.classes, p.data());
        for (std::int64_t k = 0; k < l.classes; ++k)
          sum[l.classes + k] += p[static_cast<std::size_t>(k)];
        sum[t] += p[static_cast<std::size_t>(t)];
        sum[2 * l.classes + t] += 1;
        const T surprise = normaliser - logit[t * l.class_stride];
        const T missed = std::max(T(0), 1 - p[static_cast<std::size_t>(t)]);
        nll += gamma > 0 ? surprise * std::pow(missed, gamma) : surprise;
        ++count;
      }
      sum[3 * l.classes] = nll;
      sum[3 * l.classes + 1] = static_cast<double>(count);
    }
  });
  return sums_of_columns(
      torch::from_blob(partial.data(), {l.samples, slabs, width}, at::kDouble).sum(1),
      l.classes,
      1);
}

/// With g_k = b_k + a_k t_k: d loss / d z_j = p_j (g_j - sum_k g_k p_k) + ce (p_j - t_j).
template <class T>
void backward_pass(const T* logits,
                   const std::int16_t* target,
                   const Layout& l,
                   const double* a,
                   const double* b,
                   T ce_scale,
                   T gamma,
                   T upstream,
                   T* gradient) {
  const std::int64_t slabs = (l.voxels + kSlab - 1) / kSlab;
  at::parallel_for(0, l.samples * slabs, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto classes = static_cast<std::size_t>(l.classes);
    std::vector<T> p(classes), by_overlap(classes), by_sum(classes);
    for (std::int64_t job = begin; job < end; ++job) {
      const std::int64_t n = job / slabs, first = job % slabs * kSlab;
      const std::int64_t last = std::min(l.voxels, first + kSlab);
      for (std::size_t k = 0; k < classes; ++k) {
        by_overlap[k] = static_cast<T>(a[n * l.classes + static_cast<std::int64_t>(k)]);
        by_sum[k] = static_cast<T>(b[n * l.classes + static_cast<std::int64_t>(k)]);
      }
      for (std::int64_t v = first; v < last; ++v) {
        const std::int16_t t = target[n * l.voxels + v];
        const std::int64_t at = n * l.sample_stride + v * l.voxel_stride;
        if (t < 0 || t >= l.classes) {
          for (std::int64_t k = 0; k < l.classes; ++k) gradient[at + k * l.class_stride] = 0;
          continue;
        }
        softmax_voxel(logits + at, l.class_stride, l.classes, p.data());
        T mean = by_overlap[static_cast<std::size_t>(t)] * p[static_cast<std::size_t>(t)];
        for (std::size_t k = 0; k < classes; ++k) mean += by_sum[k] * p[k];
        const T ce = ce_scale * kernels::focal_factor(p[static_cast<std::size_t>(t)], gamma);
        for (std::int64_t k = 0; k < l.classes; ++k) {
          const auto i = static_cast<std::size_t>(k);
          const T hit = k == t ? T(1) : T(0);
          const T g = p[i] * (by_sum[i] + hit * by_overlap[i] - mean) + ce * (p[i] - hit);
          gradient[at + k * l.class_stride] = upstream * g;
        }
      }
    }
  });
}

/// Mean soft Dice of probabilities and truth [N, K, D, H, W]; `mask` [N, 1, D, H, W] is 0 in voxels
/// that do not count.
at::Tensor composed_dice(const at::Tensor& p,
                         const at::Tensor& hot,
                         const at::Tensor& mask,
                         const DiceCeOptions& options,
                         std::int64_t first) {
  const auto sum = [&](const at::Tensor& x) { return (x * mask).sum({2, 3, 4}); };
  const DiceQuotient q =
      dice_quotient(sum(p * hot), sum(options.squared ? p * p : p), sum(hot), options, first);
  return (q.top / q.bottom).mean();
}

/// dice_ce_loss in LibTorch's operators: for other devices, and for squared Dice.
at::Tensor dice_ce_composed(const at::Tensor& logits,
                            const at::Tensor& target,
                            const DiceCeOptions& options) {
  const at::Tensor z = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  const at::Tensor valid = target.ge(0);
  const at::Tensor index = target.clamp_min(0).to(at::kLong).unsqueeze(1);
  const at::Tensor mask = valid.unsqueeze(1).to(z.scalar_type());
  const at::Tensor log_p = at::log_softmax(z, 1);
  const at::Tensor p = log_p.exp() * mask;
  const at::Tensor hot = at::zeros_like(p).scatter_(1, index, 1.0) * mask;
  const at::Tensor dice = composed_dice(p, hot, mask, options, first_of_dice(false, options));
  at::Tensor nll = -(log_p * hot).sum(1);
  if (options.focal_gamma > 0)
    nll = nll * (1 - (p * hot).sum(1)).clamp_min(0).pow(options.focal_gamma);
  const at::Tensor ce = nll.sum() / mask.sum().clamp_min(1);
  return options.ce_weight * ce - options.dice_weight * dice;
}

// ---- regions -----------------------------------------------------------------------------------

/// LossSums of dice_bce_loss: `nll` is the binary cross-entropy over all regions, `count` the voxels.
/// \param target [N, channels, V]; channel l.classes, where there is one, marks ignored voxels.
template <class T>
LossSums region_sums(const T* logits,
                     const std::uint8_t* target,
                     std::int64_t channels,
                     const Layout& l) {
  const std::int64_t slabs = (l.voxels + kSlab - 1) / kSlab, width = 3 * l.classes + 2;
  std::vector<double> partial(static_cast<std::size_t>(l.samples * slabs * width), 0.0);
  at::parallel_for(0, l.samples * slabs, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t job = begin; job < end; ++job) {
      const std::int64_t n = job / slabs, first = job % slabs * kSlab;
      const std::int64_t last = std::min(l.voxels, first + kSlab);
      const std::uint8_t* there = target + n * channels * l.voxels;
      const std::uint8_t* ignored = channels > l.classes ? there + l.classes * l.voxels : nullptr;
      double* sum = partial.data() + job * width;
      for (std::int64_t v = first; v < last; ++v) {
        if (ignored != nullptr && ignored[v] != 0) continue;
        const T* logit = logits + n * l.sample_stride + v * l.voxel_stride;
        for (std::int64_t k = 0; k < l.classes; ++k) {
          const T z = logit[k * l.class_stride];
          const T decay = kernels::decay_of(z), p = kernels::sigmoid(z, decay);
          const bool hit = there[k * l.voxels + v] != 0;
          if (hit) {
            sum[k] += p;
            sum[2 * l.classes + k] += 1;
          }
          sum[l.classes + k] += p;
          sum[3 * l.classes] += kernels::cross_entropy_of_logit(z, decay, hit);
        }
        sum[3 * l.classes + 1] += 1;
      }
    }
  });
  return sums_of_columns(
      torch::from_blob(partial.data(), {l.samples, slabs, width}, at::kDouble).sum(1),
      l.classes,
      1);
}

/// d loss / d z_k = p_k (1 - p_k) (b_k + a_k t_k) + ce (p_k - t_k).
template <class T>
void region_backward(const T* logits,
                     const std::uint8_t* target,
                     std::int64_t channels,
                     const Layout& l,
                     const double* a,
                     const double* b,
                     T ce_scale,
                     T upstream,
                     T* gradient) {
  const std::int64_t slabs = (l.voxels + kSlab - 1) / kSlab;
  at::parallel_for(0, l.samples * slabs, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t job = begin; job < end; ++job) {
      const std::int64_t n = job / slabs, first = job % slabs * kSlab;
      const std::int64_t last = std::min(l.voxels, first + kSlab);
      const std::uint8_t* there = target + n * channels * l.voxels;
      const std::uint8_t* ignored = channels > l.classes ? there + l.classes * l.voxels : nullptr;
      for (std::int64_t v = first; v < last; ++v) {
        const std::int64_t at = n * l.sample_stride + v * l.voxel_stride;
        const bool counts = ignored == nullptr || ignored[v] == 0;
        for (std::int64_t k = 0; k < l.classes; ++k) {
          const std::int64_t i = at + k * l.class_stride;
          gradient[i] = 0;
          if (!counts) continue;
          const T p = kernels::sigmoid(logits[i], kernels::decay_of(logits[i]));
          const T hit = there[k * l.voxels + v] != 0 ? T(1) : T(0);
          const T slope =
              static_cast<T>(b[n * l.classes + k]) + hit * static_cast<T>(a[n * l.classes + k]);
          gradient[i] = upstream * (p * (1 - p) * slope + ce_scale * (p - hit));
        }
      }
    }
  });
}

/// dice_ce_loss, or dice_bce_loss without the focal form: one pass over the logits forward, one
/// backward.
template <bool kRegions>
struct FusedLoss : torch::autograd::Function<FusedLoss<kRegions>> {
  static at::Tensor forward(AutogradContext* context,
                            const at::Tensor& logits,
                            const at::Tensor& target,
                            const DiceCeOptions& options) {
    Layout l{};
    const at::Tensor x = dense_logits(logits, l);
    LossOfSums result;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "fused loss", [&] {
      const scalar_t* z = x.const_data_ptr<scalar_t>();
      if constexpr (kRegions) {
        const std::int64_t channels = target.size(1), terms = channels > l.classes ? 1 : l.classes;
        const LossSums sums = region_sums(z, target.const_data_ptr<std::uint8_t>(), channels, l);
        result = loss_of_sums(sums, options, first_of_dice(true, options), terms);
      } else {
        const auto gamma = static_cast<scalar_t>(options.focal_gamma);
        const LossSums sums = forward_sums(z, target.const_data_ptr<std::int16_t>(), l, gamma);
        result = loss_of_sums(sums, options, first_of_dice(false, options), 1);
      }
    });
    context->save_for_backward({x, target, result.a, result.b});
    context->saved_data["ce_scale"] = result.ce_scale.item<double>();
    context->saved_data["gamma"] = options.focal_gamma;
    context->saved_data["type"] = static_cast<std::int64_t>(logits.scalar_type());
    return result.loss.to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& upstream) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& target = saved[1];
    Layout l{};
    const at::Tensor x = dense_logits(saved[0], l);
    at::Tensor result = at::empty_like(x);
    const double *a = saved[2].const_data_ptr<double>(), *b = saved[3].const_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "fused loss", [&] {
      const scalar_t* z = x.const_data_ptr<scalar_t>();
      const auto ce_scale = static_cast<scalar_t>(context->saved_data["ce_scale"].toDouble());
      const auto up = upstream[0].item<scalar_t>();
      scalar_t* gradient = result.data_ptr<scalar_t>();
      if constexpr (kRegions) {
        const auto* t = target.const_data_ptr<std::uint8_t>();
        region_backward<scalar_t>(z, t, target.size(1), l, a, b, ce_scale, up, gradient);
      } else {
        const auto* t = target.const_data_ptr<std::int16_t>();
        const auto gamma = static_cast<scalar_t>(context->saved_data["gamma"].toDouble());
        backward_pass<scalar_t>(z, t, l, a, b, ce_scale, gamma, up, gradient);
      }
    });
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    return {result.to(type), at::Tensor(), at::Tensor()};
  }
};

/// dice_bce_loss in LibTorch's operators: for other devices, the focal form and squared Dice.
at::Tensor dice_bce_composed(const at::Tensor& logits,
                             const at::Tensor& target,
                             const DiceCeOptions& options) {
  const at::Tensor z = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  const std::int64_t regions = z.size(1);
  const bool ignoring = target.size(1) > regions;
  const at::Tensor there = target.narrow(1, 0, regions).to(z.scalar_type());
  const at::Tensor mask = ignoring ? 1 - target.narrow(1, regions, 1).to(z.scalar_type())
                                   : at::ones_like(there.narrow(1, 0, 1));
  const at::Tensor p = at::sigmoid(z);
  const at::Tensor dice = composed_dice(p, there, mask, options, first_of_dice(true, options));
  at::Tensor bce = at::binary_cross_entropy_with_logits(z, there, {}, {}, at::Reduction::None);
  if (options.focal_gamma > 0) {
    const at::Tensor missed = (there - p).abs();  // 1 - probability of what is there
    bce = bce * missed.pow(options.focal_gamma);
  }
  const at::Tensor count = (mask.sum() * (ignoring ? 1 : regions)).clamp_min(1);
  return options.ce_weight * (bce * mask).sum() / count - options.dice_weight * dice;
}

}  // namespace

DiceCeOptions loss_options(const TrainOptions& options) {
  const std::string& loss = options.loss;
  DiceCeOptions result{.batch_dice = options.batch_dice,
                       .smooth = options.dice_smooth,
                       .dice_weight = options.dice_weight,
                       .ce_weight = options.ce_weight,
                       .focal_gamma = 0,
                       .include_background = options.include_background,
                       .squared = options.squared_dice,
                       .generalized = options.generalized_dice};
  const bool focal = loss == "dice_focal" || loss == "focal";
  NAS_CHECK_KIND(Usage,
                 focal || loss == "dice_ce" || loss == "ce" || loss == "dice",
                 "training option loss: unknown '",
                 loss,
                 "'");
  if (focal) result.focal_gamma = options.focal_gamma;
  if (loss == "dice") result.ce_weight = 0;
  if (loss == "ce" || loss == "focal") result.dice_weight = 0;
  return result;
}

at::Tensor dice_ce_loss(const at::Tensor& logits,
                        const at::Tensor& target,
                        const DiceCeOptions& options) {
  NAS_CHECK_KIND(
      Shape,
      logits.dim() == 5 && target.dim() == 4 && logits.size(0) == target.size(0) &&
          logits.sizes().slice(2) == target.sizes().slice(1) && logits.size(1) >= 2,
      "dice_ce_loss: expected logits [N, K >= 2, D, H, W] and target [N, D, H, W], found ",
      logits.sizes(),
      " and ",
      target.sizes());
  if (has_cuda_loss(logits, options)) return cuda_dice_ce_loss(logits, target, options);
  if (!logits.device().is_cpu() || options.squared)
    return dice_ce_composed(logits, target, options);
  return FusedLoss<false>::apply(logits, target.to(at::kShort).contiguous(), options);
}

at::Tensor dice_bce_loss(const at::Tensor& logits,
                         const at::Tensor& target,
                         const DiceCeOptions& options) {
  NAS_CHECK_KIND(
      Shape,
      logits.dim() == 5 && target.dim() == 5 && logits.size(0) == target.size(0) &&
          logits.sizes().slice(2) == target.sizes().slice(2) &&
          (target.size(1) == logits.size(1) || target.size(1) == logits.size(1) + 1),
      "dice_bce_loss: expected logits [N, K, D, H, W] and target [N, K or K + 1, D, H, W], "
      "found ",
      logits.sizes(),
      " and ",
      target.sizes());
  if (has_cuda_loss(logits, options) && options.focal_gamma <= 0)
    return cuda_dice_bce_loss(logits, target, options);
  if (!logits.device().is_cpu() || options.focal_gamma > 0 || options.squared)
    return dice_bce_composed(logits, target, options);
  return FusedLoss<true>::apply(logits, target.to(at::kByte).contiguous(), options);
}

at::Tensor training_target(const at::Tensor& labels, const LabelScheme& scheme) {
  if (!scheme.has_regions()) {
    return scheme.has_ignore ? labels.masked_fill(labels.eq(scheme.ignore_label()), -1) : labels;
  }
  const std::int64_t channels = scheme.outputs() + (scheme.has_ignore ? 1 : 0);
  at::Tensor table = at::zeros({scheme.values(), channels}, at::kByte);
  for (std::int64_t value = 0; value < scheme.labels(); ++value) {
    for (std::int64_t k = 0; k < scheme.outputs(); ++k) table[value][k] = scheme.holds(k, value);
  }
  if (scheme.has_ignore) table[scheme.ignore_label()][channels - 1] = 1;
  std::vector<std::int64_t> shape = labels.sizes().vec();
  shape.push_back(channels);
  return table.to(labels.device())
      .index_select(0, labels.flatten().to(at::kLong))
      .view(shape)
      .movedim(-1, 1)
      .contiguous();
}

HardCounts hard_counts(const at::Tensor& logits, const at::Tensor& target) {
  const at::Tensor truth = crop_target(target, logits.sizes().slice(2));
  const auto doubles = [](const at::Tensor& t) { return t.to(at::kCPU, at::kDouble); };
  if (target.dim() == 5) {
    const std::int64_t regions = logits.size(1);
    const at::Tensor valid = truth.size(1) > regions
                                 ? truth.narrow(1, regions, 1).eq(0)
                                 : at::ones_like(truth.narrow(1, 0, 1), at::kBool);
    const at::Tensor p = logits.gt(0).logical_and(valid);
    const at::Tensor t = truth.narrow(1, 0, regions).ne(0).logical_and(valid);
    const std::vector<std::int64_t> all{0, 2, 3, 4};
    return {doubles(p.logical_and(t).sum(all)), doubles(p.sum(all) + t.sum(all))};
  }
  const std::int64_t classes = logits.size(1);
  const at::Tensor predicted = logits.argmax(1), labels = truth.to(at::kLong);
  const at::Tensor valid = labels.ge(0);
  const auto histogram = [&](const at::Tensor& values, const at::Tensor& mask) {
    return doubles(values.masked_select(mask).bincount({}, classes)).slice(0, 1);
  };
  return {histogram(labels, valid.logical_and(predicted.eq(labels))),
          histogram(predicted, valid) + histogram(labels, valid)};
}

std::vector<double> deep_supervision_weights(std::size_t outputs) {
  std::vector<double> weights(outputs);
  double sum = 0;
  for (std::size_t i = 0; i < outputs; ++i) {
    const bool left_out = outputs > 1 && i + 1 == outputs;
    weights[i] = left_out ? 0 : std::ldexp(1.0, -static_cast<int>(i));
    sum += weights[i];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

at::Tensor resize_target(const at::Tensor& target, at::IntArrayRef size) {
  at::Tensor result = target;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const std::int64_t own = target.dim() - 3 + axis;
    const std::int64_t from = target.size(own), to = size[static_cast<std::size_t>(axis)];
    if (from == to) continue;
    std::vector<std::int64_t> index(static_cast<std::size_t>(to));
    for (std::int64_t i = 0; i < to; ++i)
      index[static_cast<std::size_t>(i)] = (2 * i + 1) * from / (2 * to);
    result = result.index_select(own, torch::tensor(index, at::kLong).to(target.device()));
  }
  return result;
}

at::Tensor crop_target(const at::Tensor& target, at::IntArrayRef size) {
  at::Tensor result = target;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const std::int64_t own = target.dim() - 3 + axis;
    const std::int64_t from = target.size(own), to = size[static_cast<std::size_t>(axis)];
    NAS_CHECK_KIND(
        Shape, to <= from, "crop_target: expected at most ", target.sizes(), " voxels, got ", size);
    result = result.narrow(own, (from - to) / 2, to);
  }
  return result;
}

at::Tensor sum_over_outputs(
    const std::vector<at::Tensor>& outputs,
    const at::Tensor& target,
    bool deep_supervision,
    const std::function<at::Tensor(const at::Tensor& logits, const at::Tensor& target)>& term) {
  NAS_CHECK_KIND(Shape, !outputs.empty(), "loss: the network has no output");
  const std::vector<double> weights =
      deep_supervision_weights(deep_supervision ? outputs.size() : 1);
  const at::Tensor described = crop_target(target, outputs.front().sizes().slice(2));
  at::Tensor loss;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    const at::Tensor here = resize_target(described, outputs[i].sizes().slice(2));
    const at::Tensor weighted = term(outputs[i], here) * weights[i];
    loss = loss.defined() ? loss + weighted : weighted;
  }
  return loss;
}

at::Tensor segmentation_loss(const std::vector<at::Tensor>& outputs,
                             const at::Tensor& target,
                             bool deep_supervision,
                             const DiceCeOptions& options) {
  return sum_over_outputs(
      outputs, target, deep_supervision, [&](const at::Tensor& logits, const at::Tensor& here) {
        return here.dim() == 5 ? dice_bce_loss(logits, here, options)
                               : dice_ce_loss(logits, here, options);
      });
}

}  // namespace nas
