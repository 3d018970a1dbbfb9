import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where the chart mounts the ConfigMap isthmus-config. */
export const configDirectory = process.env.ISTHMUS_CONFIG ?? '/etc/isthmus/config';

/** A ConfigMap mounted as a folder: file name → text, one last newline dropped. Kubernetes' own `..data` links are skipped. */
export function readMountedConfig(directory = configDirectory): Record<string, string> {
  const names = readdirSync(directory).filter(name => !name.startsWith('..'));
  return Object.fromEntries(
    names.map(name => [name, readFileSync(join(directory, name), 'utf8').replace(/\n$/, '')]),
  );
}
