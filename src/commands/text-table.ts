/** Tables on a terminal: columns of text, whatever the width of its characters. */
import Table from 'cli-table3';

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
};

/** Lines of a table without rules. @param align of each column, 'l' or 'r' */
export function textTable(rows: readonly (readonly string[])[], align: string): string {
  const table = new Table({
    chars: NO_LINES,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
    colAligns: [...align].map((side) => (side === 'r' ? 'right' : 'left')),
  });
  table.push(...rows.map((row) => row.map(oneLine)));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** What would break a line, as an escape. */
function oneLine(text: string): string {
  return text.replace(/\p{C}/gu, (character) => JSON.stringify(character).slice(1, -1));
}

/** The beginning of a text, marked where more follows. @param length characters */
export function beginning(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
