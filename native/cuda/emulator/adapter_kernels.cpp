#include "../adapter.cu"
