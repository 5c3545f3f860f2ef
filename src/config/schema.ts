/** The JSON Schema of the configuration, read once, and what the code needs to know of its keys. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from './paths.js';

export interface SchemaNode {
  description?: string;
  type?: string | string[];
  default?: unknown;
  enum?: unknown[];
  properties?: Record<string, SchemaNode>;
  items?: SchemaNode;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

export const SCHEMA: SchemaNode = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'configs', 'schema.json'), 'utf8'));

/** Every value of the configuration by its dotted path: 'grpo.max_steps'. A map like prompt.labels is one value. */
export const LEAVES: ReadonlyMap<string, SchemaNode> = collect(SCHEMA, '');

function collect(node: SchemaNode, prefix: string): Map<string, SchemaNode> {
  const leaves = new Map<string, SchemaNode>();
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    if (child.properties === undefined) {
      leaves.set(path, child);
    } else {
      for (const [leafPath, leaf] of collect(child, path)) {
        leaves.set(leafPath, leaf);
      }
    }
  }
  return leaves;
}
