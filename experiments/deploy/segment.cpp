// SPDX-License-Identifier: Apache-2.0
// segment MODEL IMAGE OUT.nii.gz: segments one NIfTI file with a model folder. The smallest program
// on the library; segment_onnx.cpp does the same without LibTorch.
#include <iostream>

#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/imaging/nifti.h"
#include "training/inference/predict.h"
#include "training/model/model_folder.h"

int main(int argc, char** argv) try {
  NAS_CHECK(argc == 4, "expected MODEL IMAGE OUT.nii.gz");
  nas::Model model = nas::load_model(argv[1]);
  const nas::Image image = nas::read_nifti_image(argv[2]);
  nas::write_nifti(argv[3], nas::predict_image(model, image, {.precision = "fp32"}));
  return 0;
} catch (const std::exception& error) {
  std::cerr << "segment: " << nas::exception_text(error) << "\n";
  return 1;
}
