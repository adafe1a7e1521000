// SPDX-License-Identifier: Apache-2.0
// segment_onnx MODEL.onnx IMAGE OUT.nii.gz: what a product that deploys a network needs, in one
// file, without LibTorch. All that it knows of the network stands in the ONNX file.
#include <onnxruntime_c_api.h>

#include <array>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/imaging/nifti.h"
#include "training/data/preprocessing.h"
#include "training/data/sliding_window.h"

namespace {

const OrtApi* const ort = OrtGetApiBase()->GetApi(17);  // the oldest version that has all we call

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = ort->GetErrorMessage(status);
  ort->ReleaseStatus(status);
  nas::fail(nas::ErrorKind::Input, message);
}

/// A session; lives as long as the program.
struct Network {
  OrtEnv* environment = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;

  explicit Network(const char* file) {
    OrtSessionOptions* options = nullptr;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "segment", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(environment, file, options, &session));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  }

  std::string metadata(const char* key) const {
    OrtModelMetadata* all = nullptr;
    OrtAllocator* allocator = nullptr;
    char* value = nullptr;
    check(ort->SessionGetModelMetadata(session, &all));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->ModelMetadataLookupCustomMetadataMap(all, allocator, key, &value));
    NAS_CHECK(value != nullptr, "no metadata '", key, "': not a model of voxnas export");
    return value;
  }

  nas::WindowLogits run(std::vector<float>& window, const std::array<std::int64_t, 5>& shape) {
    const char *input = "image", *output = "pred";
    OrtValue *image = nullptr, *pred = nullptr;
    check(ort->CreateTensorWithDataAsOrtValue(memory,
                                              window.data(),
                                              window.size() * sizeof(float),
                                              shape.data(),
                                              shape.size(),
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                              &image));
    check(ort->Run(session, nullptr, &input, &image, 1, &output, 1, &pred));
    OrtTensorTypeAndShapeInfo* info = nullptr;
    std::array<std::int64_t, 5> size{};  // [1, K, D, H, W]
    float* logits = nullptr;
    check(ort->GetTensorTypeAndShape(pred, &info));
    check(ort->GetDimensions(info, size.data(), size.size()));
    check(ort->GetTensorMutableData(pred, reinterpret_cast<void**>(&logits)));
    nas::WindowLogits result{{}, {size[2], size[3], size[4]}};
    result.values.assign(logits, logits + size[1] * nas::volume(result.size));
    ort->ReleaseTensorTypeAndShapeInfo(info);
    ort->ReleaseValue(pred);
    ort->ReleaseValue(image);
    return result;
  }
};

}  // namespace

int main(int argc, char** argv) try {
  NAS_CHECK(argc == 4, "expected MODEL.onnx IMAGE OUT.nii.gz");
  NAS_CHECK(ort != nullptr, "onnxruntime: expected version 1.17 or later");
  Network network(argv[1]);
  const auto json = nas::parse_json(network.metadata("preprocessing.json"), argv[1]);
  const nas::Preprocessing plan = nas::preprocessing_from_json(json, argv[1]);
  const nas::Image image = nas::read_nifti_image(argv[2]);
  const auto run = [&](std::vector<float>& window) {
    return network.run(window, {1, image.channels, plan.patch[0], plan.patch[1], plan.patch[2]});
  };
  const auto input = nas::preprocess_case(image, nullptr, plan, /*threads=*/0);
  nas::write_nifti(argv[3], nas::segment_windows(input, plan, run));
  return 0;
} catch (const std::exception& error) {
  std::cerr << "segment_onnx: " << error.what() << "\n";
  return 1;
}
