// LLVM's JITLink behind four C functions: memory comes from the caller, names are resolved by the caller, and no
// block is dropped.

#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h"
#include "llvm/ExecutionEngine/Orc/SymbolStringPool.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace llvm;
using namespace llvm::jitlink;

extern "C" {
struct Callbacks {
  void *self;
  // Zeroed, page-aligned memory; 0 if there is none left.
  uintptr_t (*take)(void *self, size_t size);
  // Whether the name is known.
  bool (*resolve)(void *self, const char *name, size_t len, uint64_t *address);
  // Where a section went; null if nobody wants to know. `offset` is that of its bytes in the file, or all ones
  // if it has none there.
  void (*place)(void *self, const char *name, size_t len, uint64_t offset, uint64_t size, uint64_t address);
};
}

namespace {

class Memory : public JITLinkMemoryManager {
public:
  explicit Memory(const Callbacks &C) : C(C) {}

  void allocate(const JITLinkDylib *, LinkGraph &G, OnAllocatedFunction OnAllocated) override {
    BasicLayout Layout(G);
    orc::ExecutorAddr First;
    for (auto &[Group, Segment] : Layout.segments()) {
      if (Segment.Alignment.value() > 4096)
        return OnAllocated(make_error<JITLinkError>("an alignment that pages cannot give"));
      uintptr_t Address = C.take(C.self, Segment.ContentSize + Segment.ZeroFillSize);
      if (!Address)
        return OnAllocated(make_error<JITLinkError>("the arena is full"));
      Segment.Addr = orc::ExecutorAddr(Address);
      Segment.WorkingMem = reinterpret_cast<char *>(Address);
      if (!First)
        First = Segment.Addr;
    }
    if (auto E = Layout.apply())
      return OnAllocated(std::move(E));
    OnAllocated(std::make_unique<Taken>(First));
  }

  void deallocate(std::vector<FinalizedAlloc> Allocs, OnDeallocatedFunction OnDeallocated) override {
    for (auto &Alloc : Allocs)
      Alloc.release();
    OnDeallocated(Error::success());
  }

private:
  struct Taken : InFlightAlloc {
    explicit Taken(orc::ExecutorAddr First) : First(First) {}
    void abandon(OnAbandonedFunction OnAbandoned) override { OnAbandoned(Error::success()); }
    void finalize(OnFinalizedFunction OnFinalized) override { OnFinalized(FinalizedAlloc(First)); }
    orc::ExecutorAddr First;
  };

  const Callbacks &C;
};

struct Session {
  explicit Session(const Callbacks &C)
      : C(C), Mem(this->C), Pool(std::make_shared<orc::SymbolStringPool>()) {}
  Callbacks C;
  Memory Mem;
  std::shared_ptr<orc::SymbolStringPool> Pool;
  std::vector<JITLinkMemoryManager::FinalizedAlloc> Allocs;
  std::string Failure;
};

class Context : public JITLinkContext {
public:
  Context(Session &S, StringRef File) : JITLinkContext(nullptr), S(S), File(File) {}

  JITLinkMemoryManager &getMemoryManager() override { return S.Mem; }

  void notifyFailed(Error E) override { S.Failure = toString(std::move(E)); }

  void lookup(const LookupMap &Symbols, std::unique_ptr<JITLinkAsyncLookupContinuation> Found) override {
    AsyncLookupResult Result;
    Result.reserve(Symbols.size());
    for (auto &[Name, Flags] : Symbols) {
      uint64_t Address = 0;
      StringRef Text = *Name;
      if (!S.C.resolve(S.C.self, Text.data(), Text.size(), &Address) &&
          Flags != SymbolLookupFlags::WeaklyReferencedSymbol)
        return Found->run(make_error<JITLinkError>("unknown symbol " + Text.str()));
      Result[Name] = {orc::ExecutorAddr(Address), JITSymbolFlags::Exported};
    }
    Found->run(std::move(Result));
  }

  Error notifyResolved(LinkGraph &) override { return Error::success(); }

  void notifyFinalized(JITLinkMemoryManager::FinalizedAlloc Alloc) override {
    S.Allocs.push_back(std::move(Alloc));
  }

  // A kernel reaches much of a module through tables that no code of it refers to: keep every block.
  LinkGraphPassFunction getMarkLivePass(const Triple &) const override {
    return [](LinkGraph &G) {
      for (auto *B : G.blocks())
        G.addAnonymousSymbol(*B, 0, B->getSize(), false, true);
      return Error::success();
    };
  }

  Error modifyPassConfig(LinkGraph &, PassConfiguration &Config) override {
    if (!S.C.place)
      return Error::success();
    Config.PrePrunePasses.push_back([this](LinkGraph &G) {
      for (auto *B : G.blocks()) {
        uint64_t Offset = ~uint64_t(0);
        if (!B->isZeroFill())
          Offset = B->getContent().data() - File.data();
        Origins.push_back({B, Offset});
      }
      return Error::success();
    });
    Config.PostAllocationPasses.push_back([this](LinkGraph &) {
      for (auto &[B, Offset] : Origins) {
        StringRef Name = B->getSection().getName();
        S.C.place(S.C.self, Name.data(), Name.size(), Offset, B->getSize(), B->getAddress().getValue());
      }
      return Error::success();
    });
    return Error::success();
  }

private:
  Session &S;
  StringRef File;
  std::vector<std::pair<Block *, uint64_t>> Origins;
};

} // namespace

extern "C" {

Session *jitlink_new(const Callbacks *C) { return new Session(*C); }

void jitlink_delete(Session *S) {
  for (auto &Alloc : S->Allocs)
    Alloc.release();
  delete S;
}

// Links one file; whether it worked.
bool jitlink_load(Session *S, const char *File, size_t Len) {
  S->Failure.clear();
  StringRef Bytes(File, Len);
  auto G = createLinkGraphFromObject(MemoryBufferRef(Bytes, "module"), S->Pool);
  if (!G) {
    S->Failure = toString(G.takeError());
    return false;
  }
  link(std::move(*G), std::make_unique<Context>(*S, Bytes));
  return S->Failure.empty();
}

// Why the last file failed.
const char *jitlink_failure(const Session *S) { return S->Failure.c_str(); }
}
