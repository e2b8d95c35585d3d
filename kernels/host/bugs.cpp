// `bugs NAME BLOCKS` runs a kernel of cusim/tests/kernels/bugs.cu, whose mistake the sanitizers or block.cpp must find.
#include "block.hpp"
#include "bugs.cu"

int main(int, char** arguments) {
    struct Bug {
        const char* name;
        void (*kernel)(float*);
    };
#define BUG(name) {#name, name},
    const Bug bugs[] = {
#include "bugs.list"
    };
    for (const Bug& bug : bugs) {
        if (strcmp(bug.name, arguments[1])) continue;
        auto output = std::make_unique<float[]>(64);
        float* o = output.get();
        launch(bug.name, {unsigned(atoi(arguments[2])), 1, 64}, 256, 0, [&] { bug.kernel(o); });
        for (int i = 0; i < 64; i++)
            if (!std::isfinite(o[i])) {
                fprintf(stderr, "%s: element %d of the output is not finite\n", bug.name, i);
                return 1;
            }
        return 0;
    }
    fprintf(stderr, "no kernel %s\n", arguments[1]);
    return 2;
}
