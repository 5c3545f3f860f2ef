#include "../attention.cu"
