import { type FSWatcher, readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { isRemoteConfig } from './remote-config.ts';

/**
 * Follows the folder of remote clusters' configurations: file name → text of every file that is one. Calls
 * `onChange` at once, before it returns, and after every change. A volume of Kubernetes changes by the swap
 * of a link, which a watch of the folder sees; a slow look every `period` milliseconds covers what it cannot
 * (a folder that appears later, a file rewritten behind a link).
 */
export function followConfigFolder(
  folder: string,
  onChange: (files: ReadonlyMap<string, string>) => void,
  signal: AbortSignal,
  period = 5000,
): void {
  let last: string | undefined;
  let watcher: FSWatcher | undefined;
  let soon: NodeJS.Timeout | undefined;

  const look = (): void => {
    if (signal.aborted) return;
    const files = readConfigs(folder);
    const state = JSON.stringify([...files]);
    if (state === last) return;
    last = state;
    onChange(files);
  };
  const listen = (): void => {
    if (watcher) return;
    try {
      watcher = watch(folder, () => {
        // A swap is several events; the files are read once they are over.
        clearTimeout(soon);
        soon = setTimeout(look, 10);
      });
      watcher.on('error', () => {
        watcher?.close();
        watcher = undefined;
      });
    } catch {
      watcher = undefined; // the folder is not there yet
    }
  };
  listen();
  look();
  const timer = setInterval(() => {
    listen();
    look();
  }, period).unref();
  signal.addEventListener(
    'abort',
    () => {
      clearInterval(timer);
      clearTimeout(soon);
      watcher?.close();
    },
    { once: true },
  );
}

function readConfigs(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch {
    return found;
  }
  for (const name of names) {
    if (name.startsWith('.')) continue;
    try {
      const path = join(folder, name);
      if (!statSync(path).isFile()) continue;
      const text = readFileSync(path, 'utf8');
      if (isRemoteConfig(text)) found.set(name, text);
    } catch {
      // The file went while it was looked at: the next look tells.
    }
  }
  return found;
}
