/** Where the package's own files lie. The compiled code and the sources stand equally deep below the root. */
import { fileURLToPath } from 'node:url';

export const PACKAGE_ROOT = fileURLToPath(new URL('../..', import.meta.url));
