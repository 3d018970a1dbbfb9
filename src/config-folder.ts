import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { parseConfig } from './api/config.ts';

/** Where the chart mounts the ConfigMap `isthmus-config`: one file per key. */
export const CONFIG_FOLDER = '/etc/isthmus/config';

/** Reads and parses a mounted ConfigMap. Files whose name starts with a dot are the kubelet's. */
export function readConfigFolder<T>(
  schema: z.ZodType<T>,
  folder: string = process.env.ISTHMUS_CONFIG ?? CONFIG_FOLDER,
): T {
  const entries: Record<string, string> = {};
  for (const name of readdirSync(folder))
    if (!name.startsWith('.')) entries[name] = readFileSync(join(folder, name), 'utf8').trim();
  return parseConfig(schema, entries);
}
