#include "../head.cu"
