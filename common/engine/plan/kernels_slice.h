/* Part of kernels_isa.c: the slice kernels for elements T, read and written through load() and
 * store(), named F(...). */

static void F(moments)(const void *zp, size_t hw, const float *shift, double *sum, double *squares)
{
	const T *z = zp;
	const vf k = *(const vf_any *)shift;
	size_t i = 0;
	while (i < hw) {
		/* Short runs in float32, so that a long slice does not lose what is small. */
		size_t end = i + 1024 < hw ? i + 1024 : hw;
		vf s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
		for (; i + 1 < end; i += 2) {
			vf d0 = load(z + i * B) - k, d1 = load(z + (i + 1) * B) - k;
			s0 += d0;
			s1 += d1;
			q0 += d0 * d0;
			q1 += d1 * d1;
		}
		for (; i < end; i++) {
			vf d = load(z + i * B) - k;
			s0 += d;
			q0 += d * d;
		}
		add_double(sum, s0 + s1);
		add_double(squares, q0 + q1);
	}
}

/* The four elements of a window as pre-activations; what lies outside repeats the first one,
 * which then wins, as the first of equals does. */
INLINE void F(window)(const T *z, size_t w, bool right, bool below, const struct norm *n, vf zv[4],
		      vf p[4])
{
	const vf mean = *(const vf_any *)n->mean, a = *(const vf_any *)n->a;
	const vf b = *(const vf_any *)n->b;
	zv[0] = load(z) - mean;
	zv[1] = right ? load(z + B) - mean : zv[0];
	zv[2] = below ? load(z + w * B) - mean : zv[0];
	zv[3] = right && below ? load(z + (w + 1) * B) - mean : zv[0];
	for (int k = 0; k < 4; k++)
		p[k] = zv[k] * a + b;
}

INLINE vf F(largest)(const vf p[4])
{
	vf m = pick(p[1] > p[0], p[1], p[0]);
	m = pick(p[2] > m, p[2], m);
	return pick(p[3] > m, p[3], m);
}

INLINE void F(pool_row)(const T *z, T *y, size_t w, bool below, const struct norm *n)
{
	vf zv[4], p[4];
	size_t j = 0;
	for (; j + 1 < w; j += 2, y += B) {
		F(window)(z + j * B, w, true, below, n, zv, p);
		store(y, activate(F(largest)(p), n->slope));
	}
	if (j < w) {
		F(window)(z + j * B, w, false, below, n, zv, p);
		store(y, activate(F(largest)(p), n->slope));
	}
}

static void F(norm)(const void *zp, void *yp, const struct slice *s, const struct norm *n)
{
	const T *z = zp;
	T *y = yp;
	const vf mean = *(const vf_any *)n->mean, a = *(const vf_any *)n->a;
	const vf b = *(const vf_any *)n->b;
	const float slope = n->slope;
	if (!s->pool) {
		for (size_t i = 0; i < s->h * s->w; i++)
			store(y + i * B, activate((load(z + i * B) - mean) * a + b, slope));
		return;
	}
	size_t out_w = (s->w + 1) / 2;
	for (size_t i = 0; i + 1 < s->h; i += 2, z += 2 * s->w * B, y += out_w * B)
		F(pool_row)(z, y, s->w, true, n);
	if (s->h % 2)
		F(pool_row)(z, y, s->w, false, n);
}

/* Which of the four takes the gradient: the first largest. */
INLINE void F(winner)(const vf p[4], vi win[4])
{
	vf m = p[0];
	vi w1 = p[1] > m;
	m = pick(w1, p[1], m);
	vi w2 = p[2] > m;
	m = pick(w2, p[2], m);
	win[3] = p[3] > m;
	win[2] = w2 & ~win[3];
	win[1] = w1 & ~w2 & ~win[3];
	win[0] = ~(w1 | w2 | win[3]);
}

INLINE void F(sums_row)(const T *z, const T *dy, size_t w, bool below,
			const struct norm *n, vf *sum_g, vf *sum_gz)
{
	const float slope = n->slope;
	for (size_t j = 0; j < w; j += 2, dy += B) {
		vf p[4], zv[4];
		vi win[4];
		F(window)(z + j * B, w, j + 1 < w, below, n, zv, p);
		F(winner)(p, win);
		vf zmax = (vf)((win[0] & (vi)zv[0]) | (win[1] & (vi)zv[1]) |
			       (win[2] & (vi)zv[2]) | (win[3] & (vi)zv[3]));
		vf d = load(dy);
		vf g = pick(F(largest)(p) > 0.f, d, d * slope);
		*sum_g += g;
		*sum_gz += g * zmax;
	}
}

static void F(norm_sums)(const void *zp, const void *dyp, const struct slice *s,
			 const struct norm *n, double *sum_g, double *sum_gz)
{
	const T *z = zp, *dy = dyp;
	const vf a = *(const vf_any *)n->a, b = *(const vf_any *)n->b;
	const vf mean = *(const vf_any *)n->mean;
	const float slope = n->slope;
	size_t out_w = s->pool ? (s->w + 1) / 2 : s->w, step = s->pool ? 2 : 1;
	for (size_t i = 0; i < s->h; i += step, z += step * s->w * B, dy += out_w * B) {
		vf sg = {0}, sgz = {0};
		if (s->pool) {
			if (i + 1 < s->h)
				F(sums_row)(z, dy, s->w, true, n, &sg, &sgz);
			else
				F(sums_row)(z, dy, s->w, false, n, &sg, &sgz);
		} else {
			for (size_t j = 0; j < s->w; j++) {
				vf v = load(z + j * B) - mean, d = load(dy + j * B);
				vf g = pick(v * a + b > 0.f, d, d * slope);
				sg += g;
				sgz += g * v;
			}
		}
		add_double(sum_g, sg);
		add_double(sum_gz, sgz);
	}
}

INLINE void F(back_row)(T *z, const T *dy, size_t w, bool below, const struct norm *n)
{
	const vf c0 = *(const vf_any *)n->c0, c1 = *(const vf_any *)n->c1;
	const vf c2 = *(const vf_any *)n->c2;
	const float slope = n->slope;
	for (size_t j = 0; j < w; j += 2, dy += B) {
		vf p[4], zv[4];
		vi win[4];
		bool right = j + 1 < w;
		T *at = z + j * B;
		F(window)(at, w, right, below, n, zv, p);
		F(winner)(p, win);
		vf d = load(dy);
		vf g = pick(F(largest)(p) > 0.f, d, d * slope) * c0;
		for (int k = 0; k < 4; k++)
			zv[k] = (vf)(win[k] & (vi)g) + (zv[k] * c1 + c2);
		store(at, zv[0]);
		if (right)
			store(at + B, zv[1]);
		if (below)
			store(at + w * B, zv[2]);
		if (right && below)
			store(at + (w + 1) * B, zv[3]);
	}
}

static void F(norm_back)(void *zp, const void *dyp, const struct slice *s,
			 const struct norm *n)
{
	T *z = zp;
	const T *dy = dyp;
	if (s->pool) {
		size_t out_w = (s->w + 1) / 2;
		for (size_t i = 0; i < s->h; i += 2, z += 2 * s->w * B, dy += out_w * B) {
			if (i + 1 < s->h)
				F(back_row)(z, dy, s->w, true, n);
			else
				F(back_row)(z, dy, s->w, false, n);
		}
		return;
	}
	const vf a = *(const vf_any *)n->a, b = *(const vf_any *)n->b;
	const vf mean = *(const vf_any *)n->mean, c0 = *(const vf_any *)n->c0;
	const vf c1 = *(const vf_any *)n->c1, c2 = *(const vf_any *)n->c2;
	const float slope = n->slope;
	for (size_t i = 0; i < s->h * s->w; i++) {
		vf v = load(z + i * B) - mean, d = load(dy + i * B);
		vf g = pick(v * a + b > 0.f, d, d * slope);
		store(z + i * B, g * c0 + (v * c1 + c2));
	}
}

/* The part of a window that lies inside, [from, to). */
INLINE void F(span)(size_t out, size_t size, size_t stride, size_t pad, size_t limit,
		    size_t *from, size_t *to)
{
	size_t begin = out * stride;
	*from = begin > pad ? begin - pad : 0;
	*to = begin + size - pad < limit ? begin + size - pad : limit;
}

static void F(maxpool)(const void *xp, void *yp, const struct window *g)
{
	const T *x = xp;
	T *y = yp;
	for (size_t i = 0; i < g->out_h; i++) {
		size_t y0, y1, x0, x1;
		F(span)(i, g->size, g->stride, g->pad, g->h, &y0, &y1);
		for (size_t j = 0; j < g->out_w; j++, y += B) {
			F(span)(j, g->size, g->stride, g->pad, g->w, &x0, &x1);
			vf m = load(x + (y0 * g->w + x0) * B);
			for (size_t r = y0; r < y1; r++) {
				for (size_t c = x0; c < x1; c++) {
					vf v = load(x + (r * g->w + c) * B);
					m = pick(v > m, v, m);
				}
			}
			store(y, m);
		}
	}
}

static void F(maxpool_back)(const void *xp, const void *dyp, void *dxp, const struct window *g)
{
	const T *x = xp, *dy = dyp;
	T *dx = dxp;
	for (size_t i = 0; i < g->out_h; i++) {
		size_t y0, y1, x0, x1;
		F(span)(i, g->size, g->stride, g->pad, g->h, &y0, &y1);
		for (size_t j = 0; j < g->out_w; j++, dy += B) {
			F(span)(j, g->size, g->stride, g->pad, g->w, &x0, &x1);
			vf m = load(x + (y0 * g->w + x0) * B), d = load(dy);
			for (size_t r = y0; r < y1; r++) {
				for (size_t c = x0; c < x1; c++) {
					vf v = load(x + (r * g->w + c) * B);
					m = pick(v > m, v, m);
				}
			}
			vi open = ~(vi){0};
			for (size_t r = y0; r < y1; r++) {
				for (size_t c = x0; c < x1; c++) {
					T *to = dx + (r * g->w + c) * B;
					vi hit = open & (load(x + (r * g->w + c) * B) == m);
					store(to, load(to) + (vf)(hit & (vi)d));
					open &= ~hit;
				}
			}
		}
	}
}

static void F(mean)(const void *xp, size_t hw, float *y)
{
	const T *x = xp;
	vf s = {0};
	for (size_t i = 0; i < hw; i++)
		s += load(x + i * B);
	*(vf_any *)y = s / (float)hw;
}

static void F(mean_back)(const float *dy, void *dxp, size_t hw, bool add)
{
	T *dx = dxp;
	vf d = *(const vf_any *)dy / (float)hw;
	for (size_t i = 0; i < hw; i++)
		store(dx + i * B, add ? load(dx + i * B) + d : d);
}

static void F(add)(void *xp, const void *yp, size_t n)
{
	T *x = xp;
	const T *y = yp;
	for (size_t i = 0; i < n; i += B)
		store(x + i, load(x + i) + load(y + i));
}

static void F(scaled_sum)(const void *xp, const void *yp, void *zp, size_t n, float p, float q,
			  float slope)
{
	const T *x = xp, *y = yp;
	T *z = zp;
	for (size_t i = 0; i < n; i += B)
		store(z + i, activate(load(x + i) * p + load(y + i) * q, slope));
}

static void F(slope_back)(const void *yp, const void *dyp, void *gp, size_t n, float slope)
{
	const T *y = yp, *dy = dyp;
	T *g = gp;
	for (size_t i = 0; i < n; i += B) {
		vf d = load(dy + i);
		store(g + i, pick(load(y + i) > 0.f, d, d * slope));
	}
}

static void F(scale)(const void *xp, void *yp, size_t n, float p, bool add)
{
	const T *x = xp;
	T *y = yp;
	for (size_t i = 0; i < n; i += B)
		store(y + i, add ? load(y + i) + load(x + i) * p : load(x + i) * p);
}

static void F(from_planes)(const float *planes, void *xp, size_t hw, size_t c)
{
	T *x = xp;
	for (size_t i = 0; i < hw; i++) {
		vf v = {0};
		for (size_t k = 0; k < c; k++)
			v[k] = planes[k * hw + i];
		store(x + i * B, v);
	}
}

static void F(to_planes)(const void *xp, float *planes, size_t hw, size_t c, bool add)
{
	const T *x = xp;
	for (size_t i = 0; i < hw; i++) {
		vf v = load(x + i * B);
		for (size_t k = 0; k < c; k++)
			planes[k * hw + i] = add ? planes[k * hw + i] + v[k] : v[k];
	}
}
