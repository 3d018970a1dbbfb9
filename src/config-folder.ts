import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where the chart mounts the ConfigMap `isthmus-config`: one file per key. */
export const CONFIG_FOLDER = '/etc/isthmus/config';

/** Reads a mounted ConfigMap: key → text. Names that start with a dot are the kubelet's own. */
export function readConfigFolder(
  folder: string = process.env.ISTHMUS_CONFIG ?? CONFIG_FOLDER,
): Record<string, string> {
  const entries: Record<string, string> = {};
  for (const name of readdirSync(folder))
    if (!name.startsWith('.')) entries[name] = readFileSync(join(folder, name), 'utf8').trim();
  return entries;
}
