/** What Progress writes, a line at a time, for those who have no terminal. */
import { Writable } from 'node:stream';

export function lineStream(onLine: (line: string) => void): Writable {
  return new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      for (const line of text.split('\n')) {
        if (line !== '') onLine(line);
      }
      done();
    },
  });
}
