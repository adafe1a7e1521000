// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nas {

/// "a, b, c".
std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ");

/// The known word with the smallest edit distance to `word` if that distance is small, else "".
std::string nearest_word(std::string_view word, const std::vector<std::string>& known);

/// The end of a sentence on a word that is not known: "; did you mean 'unet'?", or "" if no known
/// word is near. \param quote around the word: "" where it is shown as it is typed.
std::string did_you_mean(std::string_view word,
                         const std::vector<std::string>& known,
                         std::string_view quote = "'");

}  // namespace nas
