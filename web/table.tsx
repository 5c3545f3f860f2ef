/** A table that is filtered, sorted and turned page by page. New rows come in without touching any of that. */
import {
  type ColumnFiltersState,
  createTable,
  getCoreRowModel,
  getFilteredRowModel,
  getPaginationRowModel,
  getSortedRowModel,
  type PaginationState,
  type SortingState,
  type Table as TableInstance,
  type Updater,
} from '@tanstack/table-core';
import type { ComponentChildren } from 'preact';
import { useMemo, useReducer, useRef } from 'preact/hooks';
import { number } from './format.js';

export interface Column<Row> {
  key: string;
  title: string;
  value(row: Row): string | number | null | undefined;
  /** What stands in the cell, where it is not the value. */
  cell?(row: Row): ComponentChildren;
  numeric?: boolean;
  wide?: boolean;
}

export interface TableProps<Row> {
  id: string;
  caption: string;
  rows: Row[];
  columns: Column<Row>[];
  /** Said where there are no rows. */
  empty: string;
  /** Columns of which one value can be chosen. */
  choices?: string[];
  pageSize?: number;
  /** The same for the same row when it comes again with other values; else a row is the same while it is the same object. */
  rowId?(row: Row): string;
}

interface View {
  sorting: SortingState;
  globalFilter: string;
  columnFilters: ColumnFiltersState;
  pagination: PaginationState;
}

/** Numbers for objects, so that a row keeps its place in the document. */
function useKeys<Row extends object>(rowId: ((row: Row) => string) | undefined): (row: Row) => string {
  const known = useRef({ keys: new WeakMap<Row, string>(), next: 0 });
  return (row) => {
    if (rowId !== undefined) return rowId(row);
    const { keys } = known.current;
    const key = keys.get(row) ?? String(known.current.next++);
    keys.set(row, key);
    return key;
  };
}

/** The table's logic; its state is `view`. */
function useTable<Row extends object>(
  rows: Row[],
  columns: Column<Row>[],
  pageSize: number,
): { table: TableInstance<Row>; view: View } {
  const [, redraw] = useReducer((n: number, _: undefined) => n + 1, 0);
  const view = useRef<View>({
    sorting: [],
    globalFilter: '',
    columnFilters: [],
    pagination: { pageIndex: 0, pageSize },
  });
  const names = columns.map(({ key }) => key).join('\n');
  // The columns are what their names say.
  const definitions = useMemo(
    () =>
      columns.map(({ key, value }) => ({
        id: key,
        accessorFn: value,
        sortUndefined: 'last' as const,
        filterFn: 'equalsString' as const,
      })),
    [names],
  );
  const table = useRef<TableInstance<Row> | null>(null);
  const set =
    <Key extends keyof View>(key: Key) =>
    (updater: Updater<View[Key]>) => {
      const old = view.current[key];
      const value = typeof updater === 'function' ? (updater as (old: View[Key]) => View[Key])(old) : updater;
      view.current = { ...view.current, [key]: value };
      table.current?.setOptions((options) => ({ ...options, state: { ...options.state, ...view.current } }));
      redraw(undefined);
    };
  table.current ??= createTable<Row>({
    data: rows,
    columns: definitions,
    state: {},
    onStateChange: () => {},
    onSortingChange: set('sorting'),
    onGlobalFilterChange: set('globalFilter'),
    onColumnFiltersChange: set('columnFilters'),
    onPaginationChange: set('pagination'),
    globalFilterFn: 'includesString',
    getColumnCanGlobalFilter: () => true,
    getCoreRowModel: getCoreRowModel(),
    getFilteredRowModel: getFilteredRowModel(),
    getSortedRowModel: getSortedRowModel(),
    getPaginationRowModel: getPaginationRowModel(),
    autoResetAll: false,
    renderFallbackValue: null,
  });
  const { initialState } = table.current;
  table.current.setOptions((options) => ({
    ...options,
    data: rows,
    columns: definitions,
    state: { ...initialState, ...view.current },
  }));
  // A page that is no longer there, because rows were cut.
  const last = Math.max(0, table.current.getPageCount() - 1);
  if (view.current.pagination.pageIndex > last) {
    view.current = { ...view.current, pagination: { pageIndex: last, pageSize } };
    table.current.setOptions((options) => ({ ...options, state: { ...initialState, ...view.current } }));
  }
  return { table: table.current, view: view.current };
}

export function Table<Row extends object>(props: TableProps<Row>) {
  const { id, caption, rows, columns, empty, choices = [], pageSize = 25, rowId } = props;
  const { table, view } = useTable(rows, columns, pageSize);
  const keyOf = useKeys(rowId);
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const shown = table.getRowModel().rows;
  const pages = Math.max(1, table.getPageCount());
  return (
    <div class="table" id={id}>
      <div class="tools">
        <label>
          Filter
          <input
            type="search"
            id={`${id}-search`}
            placeholder="Any text"
            value={view.globalFilter}
            onInput={({ currentTarget }) => {
              table.setPageIndex(0);
              table.setGlobalFilter(currentTarget.value);
            }}
          />
        </label>
        {choices.map((key) => {
          const column = columns.find((other) => other.key === key) as Column<Row>;
          return (
            <Choice
              key={key}
              title={column.title}
              values={[...new Set(rows.map((row) => String(column.value(row) ?? '')))].sort()}
              chosen={String(view.columnFilters.find((filter) => filter.id === key)?.value ?? '')}
              onChoose={(value) => {
                table.setPageIndex(0);
                table.getColumn(key)?.setFilterValue(value || undefined);
              }}
            />
          );
        })}
        <output class="count">
          {table.getFilteredRowModel().rows.length} of {rows.length} rows, page {view.pagination.pageIndex + 1} of{' '}
          {pages}
        </output>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
      <section class="scroll" tabIndex={0} aria-label={`${caption}: rows`}>
        <table>
          <caption class="hidden">{caption}</caption>
          <thead>
            <tr>
              {columns.map((column) => (
                <Head
                  key={column.key}
                  column={column}
                  sorted={table.getColumn(column.key)?.getIsSorted() ?? false}
                  onSort={() => table.getColumn(column.key)?.toggleSorting(undefined)}
                />
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.length === 0 && (
              <tr key="none">
                <td colSpan={columns.length} class="empty">
                  No row matches the filter.
                </td>
              </tr>
            )}
            {shown.map(({ original }) => (
              <tr key={keyOf(original)}>
                {columns.map((column) => (
                  <td key={column.key} class={column.numeric ? 'num' : column.wide ? 'wide' : ''}>
                    {content(column, original)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <div class="pages">
        <button type="button" disabled={!table.getCanPreviousPage()} onClick={() => table.previousPage()}>
          Previous
        </button>
        <button type="button" disabled={!table.getCanNextPage()} onClick={() => table.nextPage()}>
          Next
        </button>
      </div>
    </div>
  );
}

function content<Row>(column: Column<Row>, row: Row): ComponentChildren {
  if (column.cell !== undefined) return column.cell(row);
  const value = column.value(row);
  return column.numeric ? number(value as number | null | undefined) : (value ?? '');
}

function Choice(props: { title: string; values: string[]; chosen: string; onChoose(value: string): void }) {
  const { title, values, chosen, onChoose } = props;
  return (
    <label>
      {title}
      <select value={chosen} onChange={({ currentTarget }) => onChoose(currentTarget.value)}>
        <option value="">all</option>
        {values.map((value) => (
          <option value={value} key={value}>
            {value}
          </option>
        ))}
      </select>
    </label>
  );
}

function Head<Row>(props: { column: Column<Row>; sorted: false | 'asc' | 'desc'; onSort(): void }) {
  const { column, sorted, onSort } = props;
  const direction = sorted === 'asc' ? 'ascending' : sorted === 'desc' ? 'descending' : 'none';
  return (
    <th scope="col" class={column.numeric ? 'num' : ''} aria-sort={direction}>
      <button type="button" onClick={onSort}>
        {column.title}
        <span class="arrow" aria-hidden="true">
          {sorted === 'asc' ? '▲' : sorted === 'desc' ? '▼' : ''}
        </span>
      </button>
    </th>
  );
}
