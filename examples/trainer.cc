// SPDX-License-Identifier: MIT
// A trainer in C++17, complete: it attaches, takes batches, remembers where it is, survives the
// death of the daemon, and goes on where it was after its own.
//
//     c++ -std=c++17 trainer.cc $(pkg-config --cflags --libs seqfeed)      or, with the header
//     alone, c++ -std=c++17 -I INCLUDE trainer.cc trainer FEED [CHECKPOINT [EPOCHS]]
//
// Three small classes are all that it takes: Attachment owns the ring, Batch owns a slot and gives
// it back at the end of its scope, and Values reads a tensor that the kernel lets nobody write.
#include <seqfeed/seqfeed.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

// What the daemon or the system said, with its negative errno.
struct Failure : std::runtime_error {
    Failure(int code, const char *text) : std::runtime_error(text), code(code) {
    }
    int code;
};

// A tensor as a flat run of values; read-only.
template <typename T> struct Values {
    const T *data;
    std::size_t count;
    const T *begin() const {
        return data;
    }
    const T *end() const {
        return data + count;
    }
};

// One batch; its slot goes back with the last owner of the Batch.
class Batch {
  public:
    Batch(Seqfeed *feed, const SeqfeedBatch &batch) : feed_(feed), batch_(batch) {
    }
    Batch(const Batch &) = delete;
    Batch &operator=(const Batch &) = delete;
    ~Batch() {
        seqfeed_release(feed_, &batch_);
    }

    const SeqfeedBatch *operator->() const {
        return &batch_;
    }
    std::string cursor() const {
        return seqfeed_cursor(&batch_);
    }

    template <typename T> Values<T> values(const char *name, uint32_t dtype) const {
        SeqfeedTensor tensor;
        if (seqfeed_tensor(&batch_, name, &tensor) < 0 || tensor.dtype != dtype)
            throw Failure(-ENOENT, "this feed has no int64 `tokens` and bool `mask`");
        return {static_cast<const T *>(tensor.data), tensor.size_bytes / sizeof(T)};
    }

  private:
    Seqfeed *feed_;
    SeqfeedBatch batch_;
};

class Attachment {
  public:
    Attachment(const std::string &feed, const std::string &cursor) {
        SeqfeedOptions options{};
        SeqfeedError error;
        Seqfeed *attached = nullptr;
        options.feed = feed.c_str();
        options.cursor = cursor.empty() ? nullptr : cursor.c_str();
        if (seqfeed_attach(&attached, &options, &error) < 0)
            throw Failure(error.code, error.text);
        feed_.reset(attached);
    }

    // The next batch of this epoch; none when it is over.
    std::unique_ptr<Batch> next() {
        SeqfeedBatch batch;
        int r = seqfeed_next(feed_.get(), &batch, -1);
        if (r == 0)
            return std::make_unique<Batch>(feed_.get(), batch);
        if (r == SEQFEED_END_OF_EPOCH)
            return nullptr;
        if (r == SEQFEED_DRAINED)
            throw Failure(-ECANCELED, "the daemon is draining");
        throw Failure(r, seqfeed_message(feed_.get()));
    }

  private:
    struct Detach {
        void operator()(Seqfeed *feed) const {
            seqfeed_detach(feed);
        }
    };
    std::unique_ptr<Seqfeed, Detach> feed_;
};

class Trainer {
  public:
    Trainer(std::string feed, std::string checkpoint)
        : feed_(std::move(feed)), checkpoint_(std::move(checkpoint)) {
        std::ifstream file(checkpoint_);
        if (!checkpoint_.empty() && std::getline(file, cursor_))
            std::cout << "going on at " << cursor_ << std::endl;
        attachment_.emplace(feed_, cursor_);
    }

    void train_epoch() {
        for (;;) {
            try {
                auto batch = attachment_->next();
                if (!batch)
                    return save();
                step(*batch);
                cursor_ = batch->cursor();
            } catch (const Failure &failure) {
                if (failure.code != -ECONNRESET) {
                    save();
                    throw;
                }
                std::cerr << "trainer: " << failure.what() << std::endl;
                attach_again();
                continue;
            }
            if (++batches_ % 10 == 0)
                save();
        }
    }

    void report() const {
        std::cout << batches_ << " batches, " << tokens_ << " tokens, sum " << sum_ << std::endl;
    }

  private:
    // One training step: here, the sum of all tokens that are not padding.
    void step(const Batch &batch) {
        auto tokens = batch.values<int64_t>("tokens", SEQFEED_INT64);
        auto mask = batch.values<bool>("mask", SEQFEED_BOOL);
        uint64_t sum = 0;
        for (std::size_t i = 0; i < tokens.count && i < mask.count; i++)
            sum += mask.data[i] ? static_cast<uint64_t>(tokens.data[i]) : 0;
        sum_ += sum;
        tokens_ += batch->tokens;
        std::cout << "epoch " << batch->epoch << " batch " << batch->index << ": " << batch->rows
                  << " rows, " << batch->tokens << " tokens, sum " << sum << std::endl;
    }

    // The daemon died. A new one continues with exactly the next batch.
    void attach_again() {
        auto pause = std::chrono::milliseconds(50);
        attachment_.reset();
        for (int attempt = 0;; attempt++) {
            std::this_thread::sleep_for(pause);
            pause = std::min(pause * 2, std::chrono::milliseconds(2000));
            try {
                attachment_.emplace(feed_, cursor_);
                return;
            } catch (const Failure &failure) {
                if ((failure.code != -ECONNREFUSED && failure.code != -ECONNRESET) || attempt == 30)
                    throw;
            }
        }
    }

    // A real trainer writes its weights in the same step. Written beside and renamed, so that there
    // is always a whole one.
    void save() const {
        if (checkpoint_.empty())
            return;
        std::ofstream(checkpoint_ + ".new") << cursor_ << '\n';
        std::filesystem::rename(checkpoint_ + ".new", checkpoint_);
    }

    std::string feed_, checkpoint_, cursor_;
    std::optional<Attachment> attachment_;
    uint64_t batches_ = 0, tokens_ = 0, sum_ = 0;
};

} // namespace

int main(int argc, char **argv) {
    if (argc < 2) {
        std::cerr << "usage: trainer FEED [CHECKPOINT [EPOCHS]]\n";
        return 2;
    }
    try {
        Trainer trainer(argv[1], argc > 2 ? argv[2] : "");
        for (long epochs = argc > 3 ? std::stol(argv[3]) : 1; epochs > 0; epochs--)
            trainer.train_epoch();
        trainer.report();
    } catch (const std::exception &failure) {
        std::cerr << "trainer: " << failure.what() << std::endl;
        return 1;
    }
    return 0;
}
