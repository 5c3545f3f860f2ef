/* global uPlot, TableCore */
// Draws the page from its data. Text reaches the page by textContent alone.
(() => {
  const app = document.getElementById('app');
  let data = JSON.parse(document.getElementById('data').textContent);
  const live = 'live' in document.documentElement.dataset;
  /** What a redraw must not lose: filters, sorting, pages. */
  const kept = new Map();
  let plots = [];

  function el(tag, props = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key === 'class') node.className = value;
      else if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
      else if (value !== false && value != null) node.setAttribute(key, value === true ? '' : value);
    }
    node.append(...children.filter((child) => child != null && child !== false));
    return node;
  }
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const percent = (value) => (value == null ? '–' : `${(100 * value).toFixed(1)}%`);
  function number(value) {
    if (value == null || Number.isNaN(value)) return '–';
    const size = Math.abs(value);
    if (size === 0) return '0';
    if (Number.isInteger(value) && size < 1e6) return String(value);
    return size >= 1000
      ? value.toFixed(0)
      : size >= 1
        ? value.toFixed(2)
        : size >= 0.001
          ? value.toFixed(3)
          : value.toExponential(1);
  }

  function section(id, title, lead, ...content) {
    return el(
      'section',
      { id, 'aria-labelledby': `${id}-title` },
      el('h2', { id: `${id}-title` }, title),
      lead && el('p', { class: 'lead' }, lead),
      ...content,
    );
  }

  // --- charts -------------------------------------------------------------------------------------------------------------

  /** @param series [{label, values, points}] over x; null where there is no value */
  function chart(title, unit, x, series, options = {}) {
    const box = el('figure', { class: 'chart' });
    const known = series.filter(({ values }) => values.some((value) => value != null));
    box.append(el('figcaption', {}, el('strong', {}, title), el('span', { class: 'unit' }, unit)));
    if (known.length === 0) {
      box.append(el('p', { class: 'empty' }, options.empty ?? 'No values yet.'));
      return box;
    }
    const legend = el('ul', { class: 'legend' });
    const readouts = known.map(({ label }, i) => {
      const value = el('output', {});
      legend.append(el('li', {}, el('span', { class: `swatch c${i % 6}` }), `${label} `, value));
      return value;
    });
    const show = (at) => {
      for (const [i, { values }] of known.entries()) {
        const value = at == null ? values.findLast((v) => v != null) : values[at];
        readouts[i].textContent = number(value);
      }
      where.textContent = at == null ? 'newest' : `${options.xName ?? 'step'} ${number(x[at])}`;
    };
    const where = el('span', { class: 'where' });
    box.firstChild.append(where);
    const last = (values) => number(values.findLast((v) => v != null));
    const canvas = el('div', {
      class: 'plot',
      role: 'img',
      tabindex: 0,
      'aria-label': `${title} (${unit}): ${known.map(({ label, values }) => `${label} ${number(values.find((v) => v != null))} to ${last(values)}`).join(', ')}. Left and right arrow keys read the values.`,
    });
    const tip = el('div', { class: 'tip', 'aria-hidden': 'true' });
    box.append(canvas, legend);
    show(null);
    plots.push({
      canvas,
      draw() {
        canvas.textContent = '';
        const axis = {
          stroke: css('--muted'),
          grid: { stroke: css('--line'), width: 1 },
          ticks: { show: false },
          font: '11px system-ui',
        };
        const plot = new uPlot(
          {
            width: canvas.clientWidth,
            height: canvas.clientHeight,
            legend: { show: false },
            cursor: {
              y: false,
              points: { size: 7 },
              drag: { x: true, y: false },
              ...(options.sync !== false && { sync: { key: 'steps' } }),
            },
            scales: {
              x: { time: false, ...(options.range && { range: () => options.range }) },
              y: options.range
                ? { range: () => options.range }
                : {
                    range: (_, lo, hi) =>
                      lo == null ? [0, 1] : uPlot.rangeNum(lo, hi === lo ? lo + 1e-6 : hi, 0.1, true),
                  },
            },
            axes: [
              { ...axis, size: 28 },
              { ...axis, size: 52, values: (_, ticks) => ticks.map(number) },
            ],
            series: [
              {},
              ...known.map(({ label, points, dash }, i) => ({
                label,
                stroke: css(`--c${i % 6}`),
                width: 2,
                dash,
                spanGaps: true,
                points: { show: points || x.length < 2, size: 6 },
              })),
            ],
            hooks: {
              setCursor: [
                (u) => {
                  show(u.cursor.idx);
                  const { idx, left } = u.cursor;
                  const visible = idx != null && left >= 0;
                  tip.hidden = !visible;
                  if (!visible) return;
                  tip.textContent = [
                    `${options.xName ?? 'step'} ${number(x[idx])}`,
                    ...known.map(({ label, values }) => `${label} ${number(values[idx])}`),
                  ].join('\n');
                  tip.style.left = `${Math.min(left + 64, canvas.clientWidth - tip.offsetWidth - 4)}px`;
                },
              ],
            },
          },
          [x, ...known.map(({ values }) => values)],
          canvas,
        );
        tip.hidden = true;
        canvas.append(tip);
        canvas.onkeydown = (event) => {
          const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (!move) return;
          event.preventDefault();
          const at = Math.max(0, Math.min(x.length - 1, (plot.cursor.idx ?? (move > 0 ? -1 : x.length)) + move));
          plot.setCursor({ left: plot.valToPos(x[at], 'x'), top: 10 });
        };
        return plot;
      },
    });
    return box;
  }

  let drawn = [];
  function drawAll() {
    for (const plot of drawn) plot.destroy();
    drawn = plots.map((plot) => plot.draw());
  }
  let resizing;
  let width = 0;
  new ResizeObserver(() => {
    if (app.clientWidth === width) return;
    width = app.clientWidth;
    clearTimeout(resizing);
    resizing = setTimeout(() => {
      for (const [i, plot] of drawn.entries())
        plot.setSize({ width: plots[i].canvas.clientWidth, height: plots[i].canvas.clientHeight });
    }, 60);
  }).observe(app);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);

  // --- tables -------------------------------------------------------------------------------------------------------------

  /** @param columns [{key, title, numeric, cell(row) → node or text, value(row)}] */
  function table(id, caption, rows, columns, { empty, choices = [], pageSize = 25 } = {}) {
    if (rows.length === 0) return el('p', { class: 'empty' }, empty);
    const state = kept.get(id) ?? {
      sorting: [],
      globalFilter: '',
      columnFilters: [],
      pagination: { pageIndex: 0, pageSize },
    };
    const set = (key) => (updater) => {
      state[key] = typeof updater === 'function' ? updater(state[key]) : updater;
      kept.set(id, state);
      instance.setOptions((old) => ({ ...old, state: { ...instance.initialState, ...state } }));
      fill();
    };
    const value = (column) => column.value ?? ((row) => row[column.key]);
    const instance = TableCore.createTable({
      data: rows,
      columns: columns.map((column) => ({
        id: column.key,
        accessorFn: value(column),
        sortUndefined: 'last',
        filterFn: 'equalsString',
        enableGlobalFilter: true,
      })),
      state: {},
      onStateChange: () => {},
      onSortingChange: set('sorting'),
      onGlobalFilterChange: set('globalFilter'),
      onColumnFiltersChange: set('columnFilters'),
      onPaginationChange: set('pagination'),
      globalFilterFn: 'includesString',
      getColumnCanGlobalFilter: () => true,
      getCoreRowModel: TableCore.getCoreRowModel(),
      getFilteredRowModel: TableCore.getFilteredRowModel(),
      getSortedRowModel: TableCore.getSortedRowModel(),
      getPaginationRowModel: TableCore.getPaginationRowModel(),
      autoResetAll: false,
      renderFallbackValue: null,
    });
    instance.setOptions((old) => ({ ...old, state: { ...instance.initialState, ...state } }));
    const search = el('input', {
      type: 'search',
      id: `${id}-search`,
      placeholder: 'Any text',
      value: state.globalFilter,
      oninput: (event) => {
        instance.setPageIndex(0);
        instance.setGlobalFilter(event.target.value);
      },
    });
    const selects = choices.map((key) => {
      const column = columns.find((other) => other.key === key);
      const options = [...new Set(rows.map(value(column)))].sort();
      const chosen = state.columnFilters.find((filter) => filter.id === key)?.value ?? '';
      const select = el(
        'select',
        {
          onchange: (event) => {
            instance.setPageIndex(0);
            instance.getColumn(key).setFilterValue(event.target.value || undefined);
          },
        },
        el('option', { value: '' }, 'all'),
        ...options.map((option) =>
          el('option', { value: option, selected: String(option) === String(chosen) }, String(option)),
        ),
      );
      return el('label', {}, column.title, select);
    });
    const count = el('span', { class: 'count', role: 'status' });
    const body = el('tbody', {});
    const heads = columns.map((column) =>
      el(
        'th',
        { scope: 'col', class: column.numeric ? 'num' : '' },
        el(
          'button',
          { type: 'button', onclick: () => instance.getColumn(column.key).toggleSorting(undefined) },
          column.title,
          el('span', { class: 'arrow', 'aria-hidden': 'true' }),
        ),
      ),
    );
    const previous = el('button', { type: 'button', onclick: () => instance.previousPage() }, 'Previous');
    const next = el('button', { type: 'button', onclick: () => instance.nextPage() }, 'Next');
    const fill = () => {
      const found = instance.getFilteredRowModel().rows.length;
      const pages = Math.max(1, instance.getPageCount());
      count.textContent = `${found} of ${rows.length} rows, page ${state.pagination.pageIndex + 1} of ${pages}`;
      previous.disabled = !instance.getCanPreviousPage();
      next.disabled = !instance.getCanNextPage();
      for (const [i, column] of columns.entries()) {
        const sorted = instance.getColumn(column.key).getIsSorted();
        heads[i].setAttribute('aria-sort', sorted === 'asc' ? 'ascending' : sorted === 'desc' ? 'descending' : 'none');
        heads[i].querySelector('.arrow').textContent = sorted === 'asc' ? '▲' : sorted === 'desc' ? '▼' : '';
      }
      const shown = instance
        .getRowModel()
        .rows.map(({ original }) =>
          el(
            'tr',
            {},
            ...columns.map((column) =>
              el(
                'td',
                { class: column.numeric ? 'num' : column.wide ? 'wide' : '' },
                column.cell
                  ? column.cell(original)
                  : column.numeric
                    ? number(value(column)(original))
                    : String(value(column)(original) ?? ''),
              ),
            ),
          ),
        );
      body.replaceChildren(
        ...(shown.length > 0
          ? shown
          : [el('tr', {}, el('td', { colspan: columns.length, class: 'empty' }, 'No row matches the filter.'))]),
      );
    };
    fill();
    return el(
      'div',
      { class: 'table', id },
      el('div', { class: 'tools' }, el('label', {}, 'Filter', search), ...selects, count),
      el(
        'div',
        { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${caption}: rows` },
        el('table', {}, el('caption', { class: 'hidden' }, caption), el('thead', {}, el('tr', {}, ...heads)), body),
      ),
      el('div', { class: 'pages' }, previous, next),
    );
  }

  function confusion(title, evaluation) {
    if (evaluation === null)
      return el('div', { class: 'card' }, el('h3', {}, title), el('p', { class: 'empty' }, 'Not evaluated yet.'));
    const { labels, confusion: rows } = evaluation;
    const columns = [...labels, 'other'];
    return el(
      'div',
      { class: 'card' },
      el('h3', {}, title),
      el('p', { class: 'figure' }, `${percent(evaluation.accuracy)} right of ${evaluation.n}`),
      el(
        'div',
        { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title },
        el(
          'table',
          { class: 'matrix' },
          el('caption', { class: 'hidden' }, `${title}: rows are what the clip is, columns what was answered`),
          el(
            'thead',
            {},
            el(
              'tr',
              {},
              el('th', { scope: 'col' }, 'is \\ answered'),
              ...columns.map((label) => el('th', { scope: 'col', class: 'num' }, label)),
            ),
          ),
          el(
            'tbody',
            {},
            ...rows.map((row, i) => {
              const sum = row.reduce((a, b) => a + b, 0) || 1;
              return el(
                'tr',
                {},
                el('th', { scope: 'row' }, labels[i]),
                ...row.map((n, j) =>
                  el(
                    'td',
                    { class: `num ${n === 0 ? 'zero' : i === j ? 'right' : 'wrong'} h${Math.ceil((4 * n) / sum)}` },
                    String(n),
                  ),
                ),
              );
            }),
          ),
        ),
      ),
    );
  }

  function words({ words: list }) {
    const largest = Math.max(0.02, ...list.map(({ influence }) => Math.abs(influence)));
    return el(
      'p',
      { class: 'words' },
      ...list.flatMap(({ word, influence }) => [
        el(
          'span',
          {
            class:
              influence === 0
                ? ''
                : `${influence > 0 ? 'for' : 'against'}${Math.ceil((3 * Math.abs(influence)) / largest)}`,
            title: `${influence >= 0 ? '+' : '−'}${(100 * Math.abs(influence)).toFixed(1)} points`,
          },
          word,
        ),
        ' ',
      ]),
    );
  }

  // --- the page of a run -----------------------------------------------------------------------------------------------------

  function curves(run) {
    const lines = run.metrics.filter(({ step }) => step > 0);
    const x = lines.map(({ step }) => step);
    const of = (key, label = key, more = {}) => ({ label, values: lines.map((line) => line[key] ?? null), ...more });
    const keys = [...new Set(lines.flatMap(Object.keys))];
    const parts = keys.filter((key) => /^rewards\/.*\/mean$/.test(key)).map((key) => key.split('/')[1]);
    const evaluated = run.metrics.filter((line) => line.eval_accuracy != null);
    const ex = evaluated.map(({ step }) => step);
    const ev = (key, label) => ({ label, values: evaluated.map((line) => line[key] ?? null), points: true });
    const times = keys.filter((key) => key.startsWith('time/'));
    return el(
      'div',
      { class: 'charts' },
      chart('Reward', 'weighted sum, mean of a step', x, [of('reward'), of('reward_std', 'standard deviation')]),
      chart(
        'Accuracy',
        'share of held-out clips',
        ex,
        [ev('eval_accuracy', 'accuracy'), ev('eval_macro_f1', 'macro-F1')],
        { sync: false },
      ),
      chart(
        'Parts of the reward',
        'mean, before weights',
        x,
        parts.map((name) => of(`rewards/${name}/mean`, name)),
      ),
      chart(
        "Share of the advantage's variance",
        'sums to 1',
        x,
        parts.map((name) => of(`rewards/${name}/advantage_share`, name)),
        { empty: 'No reward has varied within a group yet, or the run was made before this was recorded.' },
      ),
      chart('KL', 'nats per token', x, [of('kl', 'KL to the base')], { empty: 'grpo.beta is 0: there is no KL term.' }),
      chart('Entropy', 'nats per token', x, [of('entropy')]),
      chart('Length of answers', 'tokens', x, [
        of('completions/mean_length', 'mean'),
        of('completions/min_length', 'shortest'),
        of('completions/max_length', 'longest'),
      ]),
      chart('Groups that teach nothing', 'share of groups with equal rewards', x, [
        of('frac_reward_zero_std', 'dead groups'),
      ]),
      chart(
        'Predictions',
        'share of answers',
        x,
        run.labels.map((label) => of(`predictions/${label}`, label)),
      ),
      chart('Learning rate', 'per step', x, [of('learning_rate', 'rate')]),
      chart('Gradient', 'norm before clipping', x, [of('grad_norm', 'norm')]),
      chart('Time by stage', 's per step', x, [
        ...times.map((key) => of(key, key.slice(5))),
        of('step_time', 'whole step'),
      ]),
    );
  }

  function tile(title, value, hint) {
    return el(
      'div',
      { class: 'tile' },
      el('dt', {}, title),
      el('dd', {}, el('span', { class: 'value' }, value), el('small', {}, hint)),
    );
  }

  function runPage(run) {
    const newest = run.metrics.at(-1) ?? {};
    const state = { waiting: 'not begun', running: 'running', finished: 'finished' }[run.state];
    const sections = [
      ['curves', 'Curves'],
      ['answers', 'Answers'],
      ['clips', 'Clips'],
      ['completions', 'Completions'],
      ['settings', 'Settings'],
    ];
    const head = el(
      'header',
      {},
      el('div', { class: 'title' }, el('p', { class: 'brand' }, 'voicegrpo'), el('h1', {}, run.name)),
      el(
        'p',
        { class: 'state', role: 'status' },
        el('span', { class: `dot ${run.state}` }),
        state,
        el('span', { id: 'link' }, live ? ' · live' : ''),
      ),
      el('nav', { 'aria-label': 'Sections' }, ...sections.map(([id, title]) => el('a', { href: `#${id}` }, title))),
    );
    if (run.state === 'waiting')
      return [
        head,
        el(
          'main',
          {},
          el('p', { class: 'empty' }, 'The run has not begun: this page fills as soon as its folder is there.'),
        ),
      ];
    const rewards = [...new Set(run.completions.flatMap((row) => Object.keys(row.rewards ?? {})))];
    const bins = (evaluation) => evaluation?.reliability.map((bin) => bin.accuracy) ?? [];
    const centres = (run.before ?? run.after)?.reliability.map(({ from, to }) => (from + to) / 2) ?? [];
    const shown =
      run.steps > run.metrics.length ? ` ${run.metrics.length} points of ${run.steps} steps are drawn.` : '';
    return [
      head,
      el(
        'main',
        {},
        el(
          'dl',
          { class: 'tiles' },
          tile(
            'Accuracy',
            percent(run.after?.accuracy ?? run.before?.accuracy),
            run.before ? `from ${percent(run.before.accuracy)} on ${run.before.n} held-out clips` : 'not evaluated yet',
          ),
          tile(
            'Reward',
            number(newest.reward ?? run.metrics.findLast((line) => line.reward != null)?.reward),
            'newest step',
          ),
          tile('Macro-F1', number(run.after?.macro_f1), run.before ? `from ${number(run.before.macro_f1)}` : ''),
          tile('Steps', `${run.steps}`, `of at most ${run.maxSteps}`),
          tile('Dead groups', percent(newest.frac_reward_zero_std), 'teach nothing'),
        ),
        section(
          'curves',
          'Curves',
          `Point at a chart for its values; drag to look closer, double-click to come back.${shown}`,
          curves(run),
        ),
        section(
          'answers',
          'Answers to held-out clips',
          null,
          el(
            'div',
            { class: 'pair' },
            confusion('Before training', run.before),
            confusion(run.state === 'finished' ? 'After training, best adapter' : 'Newest evaluation', run.after),
          ),
          el(
            'div',
            { class: 'charts' },
            chart(
              'Calibration',
              'share that is right, by probability of the label',
              centres,
              [
                { label: 'before', values: bins(run.before), points: true },
                { label: 'after', values: bins(run.after), points: true },
                { label: 'perfect', values: centres, dash: [4, 4] },
              ],
              { sync: false, range: [0, 1], xName: 'probability' },
            ),
          ),
        ),
        section(
          'influence',
          'Words that changed the answer',
          'Each word was left out in turn and the policy asked again. Blue words made the answer more probable, orange ones less; the darker, the more. Shown are the clips whose answer changed, then those with a wrong answer, at most 12 clips and 40 words each.',
          run.influence.length === 0
            ? el('p', { class: 'empty' }, 'Computed at the end of the run.')
            : el(
                'ul',
                { class: 'influence' },
                ...run.influence.map((clip) =>
                  el(
                    'li',
                    {},
                    el('p', { class: 'answer' }, el('strong', {}, clip.label), ` ${percent(clip.probability)}`),
                    words(clip),
                  ),
                ),
              ),
        ),
        section(
          'clips',
          'Held-out clips',
          `${run.clips.length < run.clipsTotal ? `The first ${run.clips.length} of ${run.clipsTotal}. ` : ''}${run.audio.embedded > 0 ? `${run.audio.embedded} of ${run.audio.of} recordings are in this file, up to ${(run.audio.limit / 1e6).toFixed(0)} MB.` : 'The recordings are not in this file: only those of the bundled clips are.'}`,
          table(
            'clips-table',
            'Held-out clips',
            run.clips,
            [
              { key: 'label', title: 'Label' },
              { key: 'before', title: 'Before' },
              { key: 'after', title: 'After' },
              { key: 'right', title: 'Answer', cell: (row) => el('span', { class: `mark ${row.right}` }, row.right) },
              { key: 'probability', title: 'Probability', numeric: true },
              { key: 'transcript', title: 'Transcript', wide: true },
              {
                key: 'audio',
                title: 'Sound',
                value: (row) => (row.audio ? 'yes' : 'no'),
                cell: (row) =>
                  row.audio
                    ? el('audio', {
                        controls: true,
                        preload: 'none',
                        src: row.audio,
                        'aria-label': `Recording: ${row.transcript}`,
                      })
                    : '–',
              },
            ],
            { empty: 'No evaluation yet.', choices: ['label', 'right'], pageSize: 10 },
          ),
        ),
        section(
          'completions',
          'Completions',
          run.completions.length < run.completionsTotal
            ? `The last ${run.completions.length} of ${run.completionsTotal}.`
            : null,
          table(
            'completions-table',
            'Completions',
            run.completions,
            [
              { key: 'step', title: 'Step', numeric: true },
              { key: 'prompt', title: 'Prompt', numeric: true },
              { key: 'label', title: 'Label' },
              { key: 'completion', title: 'Completion', wide: true },
              { key: 'reward', title: 'Reward', numeric: true },
              { key: 'advantage', title: 'Advantage', numeric: true },
              ...rewards.map((name) => ({
                key: `reward-${name}`,
                title: name,
                numeric: true,
                value: (row) => row.rewards?.[name],
              })),
              { key: 'transcript', title: 'Transcript', wide: true },
            ],
            { empty: 'None: output.log_completions is off, or no step is done.', choices: ['label'] },
          ),
        ),
        section(
          'settings',
          'Settings',
          null,
          table(
            'settings-table',
            'Settings',
            run.settings,
            [
              { key: 'setting', title: 'Setting' },
              { key: 'value', title: 'Value', wide: true },
              { key: 'origin', title: 'Origin' },
            ],
            { empty: 'None.', choices: ['origin'] },
          ),
          el('h3', {}, 'Environment'),
          table(
            'environment-table',
            'Environment',
            run.environment,
            [
              { key: 'name', title: 'Name' },
              { key: 'value', title: 'Value', wide: true },
            ],
            { empty: 'None.' },
          ),
        ),
      ),
    ];
  }

  function comparisonPage({ name, runs, differing }) {
    const all = (key, points) => {
      const x = [...new Set(runs.flatMap((run) => run.metrics.map(({ step }) => step)))].sort((a, b) => a - b);
      return [
        x,
        runs.map((run) => {
          const by = new Map(run.metrics.map((line) => [line.step, line[key] ?? null]));
          return { label: run.name, values: x.map((step) => by.get(step) ?? null), points };
        }),
      ];
    };
    const results = runs.map((run) => ({
      run: run.name,
      state: run.state,
      before: run.evaluations[0]?.accuracy,
      after: run.evaluations.at(-1)?.accuracy,
      f1: run.evaluations.at(-1)?.macro_f1,
      reward: run.evaluations.at(-1)?.reward,
    }));
    return [
      el('header', {}, el('div', { class: 'title' }, el('p', { class: 'brand' }, 'voicegrpo'), el('h1', {}, name))),
      el(
        'main',
        {},
        section(
          'results',
          'Results',
          null,
          table('results-table', 'Results', results, [
            { key: 'run', title: 'Run' },
            { key: 'state', title: 'State' },
            { key: 'before', title: 'Accuracy before', numeric: true },
            { key: 'after', title: 'Accuracy after', numeric: true },
            { key: 'f1', title: 'Macro-F1', numeric: true },
            { key: 'reward', title: 'Reward', numeric: true },
          ]),
        ),
        section(
          'curves',
          'Curves',
          null,
          el(
            'div',
            { class: 'charts' },
            chart('Accuracy', 'share of held-out clips', ...all('eval_accuracy', true)),
            chart('Reward', 'weighted sum', ...all('reward')),
            chart('Entropy', 'nats per token', ...all('entropy')),
            chart('Dead groups', 'share', ...all('frac_reward_zero_std')),
          ),
        ),
        section(
          'settings',
          'Settings that differ',
          null,
          table(
            'settings-table',
            'Settings that differ',
            differing,
            [
              { key: 'setting', title: 'Setting' },
              ...runs.map((run, i) => ({ key: `run${i}`, title: run.name, value: (row) => row.values[i] })),
            ],
            { empty: 'None: the runs have the same settings.' },
          ),
        ),
      ),
    ];
  }

  function render() {
    const focus = document.activeElement?.id;
    const scroll = scrollY;
    plots = [];
    app.replaceChildren(...(data.kind === 'run' ? runPage(data) : comparisonPage(data)));
    drawAll();
    scrollTo(0, scroll);
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  }
  render();

  if (live) {
    const source = new EventSource('events');
    const say = (text) => {
      const link = document.getElementById('link');
      if (link) link.textContent = text;
    };
    source.addEventListener('state', (event) => {
      data = JSON.parse(event.data);
      render();
    });
    source.onopen = () => say(' · live');
    source.onerror = () => say(' · connection lost, trying again');
  }
})();
