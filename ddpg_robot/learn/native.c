// Forward and backward passes of stacks of linear, layer-normalised and ReLU layers, Adam and Polyak averaging: each one
// call, on one or more threads. `native.py` compiles this file for the processor at hand and calls it; tests compare every
// function with torch.
//
// A batch is worked on in strips of 32 rows that pass through all layers while they are in the first-level cache. What a
// product multiplies with from the right lies in panels of 16 columns: for each panel, one vector per row (float32) or per
// pair of rows (bfloat16, as the tile and dot-product instructions read it).
//
// NaN must come out where NaN went in, or training would not notice it: hence `x < 0 ? 0 : x`, and no -ffinite-math-only.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
#endif
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { STRIP = 32, PANEL = 16 };
#define EPSILON 1e-5f // of torch's layer norm

typedef uint16_t bfloat;
typedef float vector __attribute__((vector_size(4 * PANEL), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(4 * PANEL), aligned(4), may_alias));

typedef struct {
  const float *weight, *bias, *gamma, *beta;                                          // gamma: NULL without layer norm
  float *weight_gradient, *bias_gradient, *gamma_gradient, *beta_gradient;            // NULL where never wanted
  int64_t inputs, outputs, hidden, bfloat16;                                          // hidden: ReLU follows
} Layer;

typedef struct {
  Layer layer;
  int64_t in, out;          // padded: to 32 columns beside a product in bfloat16, else to 16
  void *forward, *backward; // panels of the weights: transposed, and as they are
  void *x;                  // (rows, in) the layer's input, float or bfloat
  float *z;                 // (rows, out) what the layer norm scales
  float *inverse;           // (rows) 1 / deviation of the layer norm
  bfloat *d;                // bfloat16: (out, rows) gradient with respect to the product, and
  uint32_t *x_panels;       // the input, both for the weights' gradient
  float *sums;              // (threads, each) of the gradients of bias, gamma, beta, and, in float32, of the weights
  int64_t each;
} Pass;

typedef struct {
  int64_t count, batch, threads, widest, trained;
  float *strips; // (threads, 2, STRIP, widest)
  bfloat *short_strips;
  Pass pass[];
} Stack;

#define EACH(i, n) (int64_t i = 0; i < (n); i++)

static int64_t padded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static void *zeros(int64_t bytes) {
  void *memory = aligned_alloc(64, (bytes + 127) / 64 * 64);
  return memory ? memset(memory, 0, bytes) : NULL;
}

// The sums of 2 x TALL x LANES products are kept in registers.
#if defined __AVX512F__
enum { LANES = 16, TALL = 8 };
#elif defined __AVX__
enum { LANES = 8, TALL = 4 };
#elif defined __aarch64__
enum { LANES = 4, TALL = 8 };
#else
enum { LANES = 4, TALL = 4 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// `many` x LANES columns of `product`.
static inline __attribute__((always_inline)) void columns_of_product(int64_t many, int64_t rows, int64_t depth,
                                                                     const float *a, int64_t row, int64_t column,
                                                                     const float *b, int64_t step, int64_t apart,
                                                                     float *c, int64_t width, int64_t add) {
  for (int64_t i = 0; i < rows; i += TALL) {
    lanes sum[TALL][2] = {0};
    for EACH (k, depth) {
      lanes v0 = *(const lanes *)(b + k * step), v1 = *(const lanes *)(b + apart + k * step);
#pragma GCC unroll 8
      for EACH (r, TALL) {
        float x = a[(i + r) * row + k * column];
        sum[r][0] += x * v0;
        if (many == 2) sum[r][1] += x * v1;
      }
    }
    for EACH (r, TALL) {
      lanes *to = (lanes *)(c + (i + r) * width);
      if (add) sum[r][0] += to[0];
      to[0] = sum[r][0];
      if (many == 1) continue;
      if (add) sum[r][1] += to[1];
      to[1] = sum[r][1];
    }
  }
}

// C = A B in float32: A is (rows, depth) with strides, B in panels of `tall` rows, C (rows, columns).
// rows: a multiple of 8; columns: of 16.
static void product(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t row, const float *panels,
                    int64_t tall, float *c, int64_t width) {
  for (int64_t j = 0; j < columns; j += 2 * LANES) {
    const float *b = panels + j / PANEL * PANEL * tall + j % PANEL;
    const int64_t apart = LANES < PANEL ? LANES : tall * PANEL;
    if (j + LANES < columns)
      columns_of_product(2, rows, depth, a, row, 1, b, PANEL, apart, c + j, width, 0);
    else
      columns_of_product(1, rows, depth, a, row, 1, b, PANEL, 0, c + j, width, 0);
  }
}

// C += A^T B in float32 for a strip: A is (STRIP, rows), B (STRIP, columns), C (rows, columns), padded as for `product`.
static void add_outer_product(int64_t rows, int64_t columns, const float *a, int64_t row, const float *b, float *c) {
  for (int64_t j = 0; j < columns; j += 2 * LANES)
    if (j + LANES < columns)
      columns_of_product(2, rows, STRIP, a, 1, row, b + j, columns, LANES, c + j, columns, 1);
    else
      columns_of_product(1, rows, STRIP, a, 1, row, b + j, columns, 0, c + j, columns, 1);
}

#ifdef __AVX512BF16__
static words low_halves(vector x) { return (words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x)); }

// x in the lower and y in the upper halves.
static words pairs(vector x, vector y) { return low_halves(x) | low_halves(y) << 16; }

// C = A B in bfloat16, summed in float32: A is (rows, depth), B in panels of pairs; all multiples of 32.
static void short_product(int64_t rows, int64_t columns, int64_t depth, const bfloat *a, int64_t row,
                          const uint32_t *panels, float *c, int64_t width) {
#ifdef __AMX_BF16__
  static const struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; }
      tiles = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
  _tile_loadconfig(&tiles);
  for (int64_t j = 0; j < columns; j += 32) {
    const uint32_t *b0 = panels + j / PANEL * depth / 2 * PANEL, *b1 = b0 + depth / 2 * PANEL;
    for (int64_t i = 0; i < rows; i += 32) {
      const bfloat *a0 = a + i * row, *a1 = a0 + 16 * row;
      float *c0 = c + i * width + j, *c1 = c0 + 16 * width;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t k = 0; k < depth; k += 32) {
        _tile_loadd(4, a0 + k, 2 * row);
        _tile_loadd(6, b0 + k / 2 * PANEL, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k / 2 * PANEL, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + k, 2 * row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, c0, 4 * width);
      _tile_stored(1, c0 + 16, 4 * width);
      _tile_stored(2, c1, 4 * width);
      _tile_stored(3, c1 + 16, 4 * width);
    }
  }
  _tile_release();
#else
  for (int64_t j = 0; j < columns; j += 32) {
    const uint32_t *b0 = panels + j / PANEL * depth / 2 * PANEL, *b1 = b0 + depth / 2 * PANEL;
    for (int64_t i = 0; i < rows; i += 8) {
      __m512 sum[8][2] = {0};
      for EACH (k, depth / 2) {
        __m512bh v0 = (__m512bh)_mm512_loadu_si512(b0 + k * PANEL), v1 = (__m512bh)_mm512_loadu_si512(b1 + k * PANEL);
#pragma GCC unroll 8
        for EACH (r, 8) {
          uint32_t pair;
          memcpy(&pair, a + (i + r) * row + 2 * k, 4);
          __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, v0);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, v1);
        }
      }
      for EACH (r, 8) {
        _mm512_storeu_ps(c + (i + r) * width + j, sum[r][0]);
        _mm512_storeu_ps(c + (i + r) * width + j + 16, sum[r][1]);
      }
    }
  }
#endif
}

static void round_row(int64_t n, const float *x, bfloat *y) {
  for (int64_t i = 0; i < n; i += PANEL)
    _mm256_storeu_si256((__m256i *)(y + i), (__m256i)_mm512_cvtneps_pbh((__m512)*(const vector *)(x + i)));
}
#else
// Never called: see `has_bfloat16`.
static words pairs(vector x, vector y) { return (words)x | (words)y; }
static void short_product(int64_t rows, int64_t columns, int64_t depth, const bfloat *a, int64_t row,
                          const uint32_t *panels, float *c, int64_t width) {}
static void round_row(int64_t n, const float *x, bfloat *y) {}
#endif

#ifdef __clang__
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (words){__VA_ARGS__})
#endif

// Transposes 16 x 16 words in place: exchanges the odd rows' even columns with the even rows' odd ones, then pairs, ...
static void transpose(words m[PANEL]) {
  words x, y;
#define STAGE(step, low, high)                                                                                         \
  for EACH (i, PANEL)                                                                                                  \
    if (!(i & step)) x = m[i], y = m[i + step], m[i] = low, m[i + step] = high;
  STAGE(1, SHUFFLE(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
        SHUFFLE(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
  STAGE(2, SHUFFLE(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
        SHUFFLE(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  STAGE(4, SHUFFLE(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
        SHUFFLE(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  STAGE(8, SHUFFLE(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
        SHUFFLE(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
}

// Columns j to j + 15 of row i of a matrix that ends at (rows, columns), zero beyond.
static vector piece(const float *x, int64_t rows, int64_t columns, int64_t i, int64_t j) {
  vector v = {0};
  int64_t n = columns - j < PANEL ? columns - j : PANEL;
  if (i < rows && n == PANEL) return *(const vector *)(x + i * columns + j);
  if (i < rows && n > 0) memcpy(&v, x + i * columns + j, 4 * n);
  return v;
}

// 16 rows of the weights, from row i on, into both kinds of panels.
static void pack(const Pass *p, int64_t i) {
  const Layer *l = &p->layer;
  const float *w = l->weight;
  const int64_t step = l->bfloat16 ? 2 : 1; // rows of a matrix that one row of its panels holds
  for (int64_t j = 0; j < p->in; j += PANEL * step) {
    words block[PANEL]; // a word of `step` columns each
    for EACH (r, PANEL) {
      vector first = piece(w, l->outputs, l->inputs, i + r, j);
      if (l->bfloat16) {
        vector both[2] = {first, piece(w, l->outputs, l->inputs, i + r, j + PANEL)};
        round_row(2 * PANEL, (float *)both, (bfloat *)&block[r]);
      } else
        block[r] = (words)first;
    }
    transpose(block);
    memcpy((uint32_t *)p->forward + (i * p->in + j * PANEL) / step, block, sizeof block);
  }
  if (!p->backward) return;
  for (int64_t j = 0; j < p->in; j += PANEL)
    for (int64_t r = i; r < i + PANEL; r += step) {
      vector first = piece(w, l->outputs, l->inputs, r, j);
      words row = (words)first;
      if (l->bfloat16) row = pairs(first, piece(w, l->outputs, l->inputs, r + 1, j));
      *(words *)((uint32_t *)p->backward + (j * p->out + r * PANEL) / step) = row;
    }
}

void stack_free(Stack *s) {
  for EACH (i, s->count) {
    Pass *p = &s->pass[i];
    void *all[] = {p->forward, p->backward, p->x, p->z, p->inverse, p->d, p->x_panels, p->sums};
    for EACH (j, 8) free(all[j]);
  }
  free(s->strips), free(s->short_strips), free(s);
}

// Whether this build multiplies in bfloat16.
int64_t has_bfloat16(void) {
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}

// NULL without memory, or where the kernel denies the tile registers. batch: a multiple of 32; trained: whether
// `stack_backward` will be called.
Stack *stack_new(const Layer *layers, int64_t count, int64_t batch, int64_t threads, int64_t trained) {
  Stack *s = zeros(sizeof(Stack) + count * sizeof(Pass));
  if (!s) return NULL;
  *s = (Stack){.count = count, .batch = batch, .threads = threads, .trained = trained};
  const int64_t rows = trained ? batch : threads * STRIP;
  int complete = 1;
#define NEW(field, bytes) complete &= (p->field = zeros(bytes)) != NULL
  for EACH (i, count) {
    Pass *p = &s->pass[i];
    const Layer *l = &p->layer;
    p->layer = layers[i];
    const int64_t before = i > 0 && layers[i - 1].bfloat16, after = i + 1 < count && layers[i + 1].bfloat16;
    p->in = padded(l->inputs, before || l->bfloat16 ? 32 : PANEL);
    p->out = padded(l->outputs, after || l->bfloat16 ? 32 : PANEL);
    if (p->in > s->widest) s->widest = p->in;
    if (p->out > s->widest) s->widest = p->out;
    const int64_t bytes = l->bfloat16 ? 2 : 4;
    NEW(forward, bytes * p->in * p->out);
    NEW(x, bytes * rows * p->in);
    if (l->gamma) {
      NEW(z, 4 * rows * p->out);
      NEW(inverse, 4 * rows);
    }
    if (!trained) continue;
    NEW(backward, bytes * p->in * p->out);
    p->each = 3 * p->out + (l->bfloat16 ? 0 : p->in * p->out);
    NEW(sums, 4 * threads * p->each);
    if (l->bfloat16) {
      NEW(d, 2 * batch * p->out);
      NEW(x_panels, 2 * batch * p->in);
    }
  }
  complete &= (s->strips = zeros(4 * threads * 2 * STRIP * s->widest)) &&
              (s->short_strips = zeros(2 * threads * STRIP * s->widest));
#ifdef __AMX_BF16__
  complete &= !syscall(SYS_arch_prctl, 0x1023, 18); // ask the kernel for the tile registers' data
#endif
  if (complete) return s;
  stack_free(s);
  return NULL;
}

// Takes over the weights as they are now.
void stack_refresh(Stack *s) {
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
  for EACH (k, s->count) {
    const Pass *p = &s->pass[k];
#pragma omp for nowait
    for (int64_t i = 0; i < p->out; i += PANEL) pack(p, i);
  }
}

static void store_row(const Pass *p, int64_t row, const float *x, int64_t n) {
  if (p->layer.bfloat16)
    round_row(p->in, x, (bfloat *)p->x + row * p->in);
  else
    memcpy((float *)p->x + row * p->in, x, 4 * n);
}

// Sum of x y, or of x where y is NULL. One accumulator would wait for itself at every addition: four take turns.
static inline __attribute__((always_inline)) float dot(int64_t n, const float *x, const float *y) {
  vector sums[4] = {0};
  float total = 0;
  int64_t j = 0;
  for (; j + 4 * PANEL <= n; j += 4 * PANEL)
    for EACH (k, 4) {
      vector v = *(const vector *)(x + j + k * PANEL);
      if (y) v *= *(const vector *)(y + j + k * PANEL);
      sums[k] += v;
    }
  for (; j < n; j++) total += y ? x[j] * y[j] : x[j];
  sums[0] += sums[1] + (sums[2] + sums[3]);
  for EACH (k, PANEL) total += sums[0][k];
  return total;
}

// From the product of one row to the ReLU's output, in place.
static void activate(const Pass *p, int64_t row, float *restrict y) {
  const Layer *l = &p->layer;
  const int64_t n = l->outputs;
  const float *restrict bias = l->bias, *restrict gamma = l->gamma, *restrict beta = l->beta;
  if (!l->hidden) {
    for EACH (j, n) y[j] += bias[j];
    return;
  }
  if (!gamma) {
    for EACH (j, n) {
      float sum = y[j] + bias[j];
      y[j] = sum < 0 ? 0 : sum;
    }
    return;
  }
  float *restrict z = p->z + row * p->out;
  for EACH (j, n) y[j] += bias[j];
  const float mean = dot(n, y, NULL) / n;
  for EACH (j, n) y[j] -= mean;
  const float inverse = p->inverse[row] = 1 / sqrtf(dot(n, y, y) / n + EPSILON);
  for EACH (j, n) {
    z[j] = y[j] * inverse;
    float scaled = z[j] * gamma[j] + beta[j];
    y[j] = scaled < 0 ? 0 : scaled;
  }
}

typedef struct {
  float *at;
  int64_t columns, apart; // apart: from one row to the next
} Matrix;

// From x and x2, beside each other, to y, all of `batch` rows.
void stack_forward(Stack *s, const Matrix *x, const Matrix *x2, const Matrix *y) {
#pragma omp parallel for num_threads(s->threads) if (s->threads > 1)
  for (int64_t begin = 0; begin < s->batch; begin += STRIP) {
    float *strip = s->strips + omp_get_thread_num() * 2 * STRIP * s->widest;
    const int64_t row = s->trained ? begin : omp_get_thread_num() * STRIP;
    memset(strip, 0, 4 * s->pass[0].in);
    for EACH (r, STRIP) {
      memcpy(strip, x->at + (begin + r) * x->apart, 4 * x->columns);
      memcpy(strip + x->columns, x2->at + (begin + r) * x2->apart, 4 * x2->columns);
      store_row(&s->pass[0], row + r, strip, x->columns + x2->columns);
    }
    for EACH (i, s->count) {
      const Pass *p = &s->pass[i];
      if (p->layer.bfloat16)
        short_product(STRIP, p->out, p->in, (bfloat *)p->x + row * p->in, p->in, p->forward, strip, p->out);
      else if (p->layer.outputs == 1) // a panel would be fifteen sixteenths zeros
        for EACH (r, STRIP) strip[r * p->out] = dot(p->layer.inputs, (float *)p->x + (row + r) * p->in, p->layer.weight);
      else
        product(STRIP, p->out, p->layer.inputs, (float *)p->x + row * p->in, p->in, p->forward, p->in, strip, p->out);
      for EACH (r, STRIP) {
        float *one = strip + r * p->out;
        activate(p, row + r, one);
        if (i + 1 < s->count)
          store_row(p + 1, row + r, one, p->layer.outputs);
        else
          memcpy(y->at + (begin + r) * y->apart, one, 4 * y->columns);
      }
    }
  }
}

// From the gradient with respect to the ReLU's output of one row to that of the product, in place.
static void deactivate(const Pass *p, int64_t row, float *restrict d, float *sums) {
  const Layer *l = &p->layer;
  const int64_t n = l->outputs;
  float *restrict bias_sum = sums, *restrict gamma_sum = sums + p->out, *restrict beta_sum = sums + 2 * p->out;
  if (l->gamma) {
    const float *restrict z = p->z + row * p->out, *restrict gamma = l->gamma, *restrict beta = l->beta;
    for EACH (j, n) {
      float passed = z[j] * gamma[j] + beta[j] > 0 ? d[j] : 0;
      gamma_sum[j] += passed * z[j];
      beta_sum[j] += passed;
      d[j] = passed * gamma[j];
    }
    const float mean = dot(n, d, NULL) / n, along = dot(n, d, z) / n, inverse = p->inverse[row];
    for EACH (j, n) bias_sum[j] += d[j] = (d[j] - mean - z[j] * along) * inverse;
  } else if (!l->hidden)
    for EACH (j, n) bias_sum[j] += d[j];
  else if (p[1].layer.bfloat16) { // the ReLU's output is the next layer's input
    const bfloat *restrict x = (const bfloat *)p[1].x + row * p[1].in;
    for EACH (j, n) bias_sum[j] += d[j] = x[j] ? d[j] : 0;
  } else {
    const float *restrict x = (const float *)p[1].x + row * p[1].in;
    for EACH (j, n) bias_sum[j] += d[j] = x[j] > 0 ? d[j] : 0;
  }
}

// Keeps a strip of the gradient with respect to the product, and of the input, for `weight_gradient`.
static void keep(const Stack *s, const Pass *p, int64_t row, const float *d) {
  for (int64_t j = 0; j < p->out; j += PANEL) {
    words block[PANEL];
    for EACH (r, PANEL)
      block[r] = pairs(*(const vector *)(d + 2 * r * p->out + j), *(const vector *)(d + (2 * r + 1) * p->out + j));
    transpose(block);
    for EACH (r, PANEL) memcpy(p->d + (j + r) * s->batch + row, &block[r], sizeof block[r]);
  }
  for (int64_t j = 0; j < p->in; j += PANEL)
    for (int64_t r = 0; r < STRIP; r += 2) {
      const bfloat *first = (const bfloat *)p->x + (row + r) * p->in + j, *second = first + p->in;
      uint32_t *pair = p->x_panels + j / 2 * s->batch + (row + r) / 2 * PANEL;
      for EACH (k, PANEL) pair[k] = first[k] | (uint32_t)second[k] << 16;
    }
}

// 32 rows of the weights' gradient.
static void weight_gradient(const Stack *s, const Pass *p, int64_t row, float *strip) {
  const Layer *l = &p->layer;
  if (l->bfloat16)
    short_product(STRIP, p->in, s->batch, p->d + row * s->batch, s->batch, p->x_panels, strip, p->in);
  for (int64_t r = row; r < row + STRIP && r < l->outputs; r++) {
    float *to = l->weight_gradient + r * l->inputs;
    if (l->bfloat16)
      memcpy(to, strip + (r - row) * p->in, 4 * l->inputs);
    else
      for EACH (t, s->threads) {
        const float *sum = p->sums + t * p->each + 3 * p->out + r * p->in;
        for EACH (j, l->inputs) to[j] = t ? to[j] + sum[j] : sum[j];
      }
  }
}

// After `stack_forward`: from the loss's gradient with respect to y, (batch, outputs), that with respect to the inputs
// from number `first` on, into input_gradient, unless it is NULL; and the parameters' gradients where they are wanted.
void stack_backward(Stack *s, const float *gradient, float *input_gradient, int64_t first, int64_t parameters) {
  const int64_t inputs = s->pass[0].layer.inputs - first, outputs = s->pass[s->count - 1].layer.outputs;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
  {
    const int thread = omp_get_thread_num();
    float *strip = s->strips + thread * 2 * STRIP * s->widest, *next = strip + STRIP * s->widest;
    bfloat *short_strip = s->short_strips + thread * STRIP * s->widest;
#pragma omp for
    for EACH (t, s->threads) // those of threads that OpenMP may not give us, too
      for EACH (i, s->count) memset(s->pass[i].sums + t * s->pass[i].each, 0, 4 * s->pass[i].each);
#pragma omp for
    for (int64_t row = 0; row < s->batch; row += STRIP) {
      float *d = strip, *other = next;
      const Pass *last = &s->pass[s->count - 1];
      memset(d, 0, 4 * STRIP * last->out);
      for EACH (r, STRIP) memcpy(d + r * last->out, gradient + (row + r) * outputs, 4 * outputs);
      for (int64_t i = s->count - 1; i >= 0; i--) {
        const Pass *p = &s->pass[i];
        float *sums = p->sums + thread * p->each;
        for EACH (r, STRIP) deactivate(p, row + r, d + r * p->out, sums);
        if (parameters && p->layer.bfloat16)
          keep(s, p, row, d);
        else if (parameters)
          add_outer_product(padded(p->layer.outputs, 8), p->in, d, p->out, (float *)p->x + row * p->in, sums + 3 * p->out);
        if (i == 0 && !input_gradient) break;
        if (p->layer.bfloat16) {
          round_row(STRIP * p->out, d, short_strip);
          short_product(STRIP, p->in, p->out, short_strip, p->out, p->backward, other, p->in);
        } else
          product(STRIP, p->in, p->layer.outputs, d, p->out, p->backward, p->out, other, p->in);
        float *swapped = d;
        d = other, other = swapped;
      }
      if (input_gradient)
        for EACH (r, STRIP) memcpy(input_gradient + (row + r) * inputs, d + r * s->pass[0].in + first, 4 * inputs);
    }
    if (parameters)
      for EACH (i, s->count) {
        const Pass *p = &s->pass[i];
        const Layer *l = &p->layer;
#pragma omp for nowait
        for (int64_t row = 0; row < p->out; row += STRIP) weight_gradient(s, p, row, strip);
        float *sums[] = {l->bias_gradient, l->gamma_gradient, l->beta_gradient};
#pragma omp for nowait
        for (int64_t which = 0; which < (l->gamma ? 3 : 1); which++)
          for EACH (t, s->threads) {
            const float *sum = p->sums + t * p->each + which * p->out;
            for EACH (j, l->outputs) sums[which][j] = t ? sums[which][j] + sum[j] : sum[j];
          }
      }
  }
}

// y for a single x, (inputs), by the parameters as they are: the stack's latest refresh does not matter. Overwrites what
// `stack_backward` needs of the batch's first row.
void stack_row(const Stack *s, const float *x, float *y) {
  float rows[2][s->widest];
  for EACH (i, s->count) {
    const Layer *l = &s->pass[i].layer;
    float *to = i + 1 < s->count ? rows[i % 2] : y;
    for EACH (j, l->outputs) to[j] = dot(l->inputs, x, l->weight + j * l->inputs);
    activate(&s->pass[i], 0, to);
    x = to;
  }
}

// Rows of x, `apart` numbers from each other: (x - mean) * inverse within plus and minus limit, to y, (rows, n).
void normalize(int64_t rows, int64_t n, const float *x, int64_t apart, const float *restrict mean,
               const float *restrict inverse, float limit, float *restrict y) {
  for EACH (i, rows)
    for EACH (j, n) {
      float value = (x[i * apart + j] - mean[j]) * inverse[j];
      value = value < -limit ? -limit : value;
      y[i * n + j] = value > limit ? limit : value;
    }
}

// One step of Adam; both bias corrections are in step and eps. rate: 1 - beta, exact.
void adam(int64_t n, float *restrict parameter, const float *restrict gradient, float *restrict mean,
          float *restrict square, float rate1, float beta2, float rate2, float step, float eps, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for EACH (i, n) {
    mean[i] += rate1 * (gradient[i] - mean[i]);
    square[i] = beta2 * square[i] + rate2 * gradient[i] * gradient[i];
    parameter[i] -= step * mean[i] / (sqrtf(square[i]) + eps);
  }
}

// target <- (1 - tau) target + tau source.
void follow(int64_t n, float *restrict target, const float *restrict source, float tau, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for EACH (i, n) target[i] = (1 - tau) * target[i] + tau * source[i];
}
