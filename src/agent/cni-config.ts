/**
 * The plugin on the node: its executable, and the configuration that makes the container runtime use it. The
 * configuration is what makes a node Ready, so it is written when the datapath works, and not before. It goes with
 * the datapath: a machine that boots has neither, so the file is in memory, and the runtime's folder has a link to it.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  type FSWatcher,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../log.ts';

export const CONFIG_FILE = '05-isthmus.conflist';
const BACKUP = '.isthmus_bak';
const PLUGIN = 'isthmus-cni';
const LOOPBACK = 'loopback';

export interface CniPaths {
  /** Where the runtime looks for plugins, /opt/cni/bin. */
  readonly binFolder: string;
  /** Where it looks for configurations, /etc/cni/net.d. */
  readonly configFolder: string;
  /** Where files are gone after a reboot, /run/isthmus; of the same name on the node. */
  readonly runFolder: string;
}

/** Where an agent's pod has the node's folders, wherever they are on the node. */
export const cniPaths: CniPaths = {
  binFolder: '/opt/cni/bin',
  configFolder: '/etc/cni/net.d',
  runFolder: '/run/isthmus',
};

/**
 * Puts the executable where the runtime finds it, replacing an older one whole; one that runs just now goes
 * on. Also as `loopback`, which runtimes call for every pod, where the node has none.
 */
export function installPlugin(source: string, { binFolder }: Pick<CniPaths, 'binFolder'>): void {
  mkdirSync(binFolder, { recursive: true });
  install(source, join(binFolder, PLUGIN));
  const loopback = join(binFolder, LOOPBACK);
  if (!existsSync(loopback) || isOurs(loopback)) install(source, loopback);
}

/** The network configuration list: specification 1.0.0 is the newest that containerd 1.6 reads. */
export const networkConfiguration = (): string =>
  `${JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: 'isthmus',
      plugins: [{ type: PLUGIN, capabilities: { portMappings: true } }],
    },
    undefined,
    2,
  )}\n`;

type ConfigPaths = Pick<CniPaths, 'configFolder' | 'runFolder'>;

/** The file itself, in memory. */
const contentPath = ({ runFolder }: ConfigPaths): string => join(runFolder, 'cni.conflist');

/** Writes the configuration so that the runtime sees it at once. */
export function writeConfiguration(paths: ConfigPaths): void {
  const { configFolder, runFolder } = paths;
  mkdirSync(configFolder, { recursive: true });
  mkdirSync(runFolder, { recursive: true });
  const content = contentPath(paths);
  // The runtime never sees half a file, nor a moment without: new ones are made aside, and renamed.
  if (contentOf(content) !== networkConfiguration()) {
    writeFileSync(`${content}.tmp`, networkConfiguration(), { mode: 0o644 });
    renameSync(`${content}.tmp`, content);
  }
  const link = join(configFolder, CONFIG_FILE);
  if (targetOf(link) !== content) {
    rmSync(`${link}.tmp`, { force: true });
    symlinkSync(content, `${link}.tmp`);
    renameSync(`${link}.tmp`, link);
  }
  nudge(configFolder);
}

const isWritten = (paths: ConfigPaths): boolean =>
  targetOf(join(paths.configFolder, CONFIG_FILE)) === contentPath(paths) &&
  contentOf(contentPath(paths)) === networkConfiguration();

/** Takes the configuration away: no new pod starts on the node until it is back. */
export function removeConfiguration(paths: ConfigPaths): void {
  rmSync(join(paths.configFolder, CONFIG_FILE), { force: true });
  rmSync(contentPath(paths), { force: true });
}

/** Sets other configurations aside, so that the runtime takes ours; their names are returned. */
export function setOthersAside({ configFolder }: Pick<CniPaths, 'configFolder'>): string[] {
  const others = readdirSync(configFolder).filter(
    name => /\.(conf|conflist|json)$/.test(name) && name !== CONFIG_FILE,
  );
  for (const name of others) renameSync(join(configFolder, name), join(configFolder, name + BACKUP));
  if (others.length) nudge(configFolder);
  return others;
}

/** Undoes everything: the executables go, other configurations come back. */
export function uninstallPlugin(paths: CniPaths): void {
  const { binFolder, configFolder } = paths;
  removeConfiguration(paths);
  for (const name of listed(configFolder)) {
    if (!name.endsWith(BACKUP)) continue;
    const original = join(configFolder, name.slice(0, -BACKUP.length));
    // Somebody has written it anew meanwhile: theirs is the newer one.
    if (existsSync(original)) rmSync(join(configFolder, name));
    else renameSync(join(configFolder, name), original);
  }
  if (existsSync(configFolder)) nudge(configFolder);
  const loopback = join(binFolder, LOOPBACK);
  if (isOurs(loopback)) rmSync(loopback, { force: true });
  rmSync(join(binFolder, PLUGIN), { force: true });
}

export interface KeepOptions extends CniPaths {
  /** Set other configurations aside, also those that appear later. */
  readonly exclusive: boolean;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Writes the configuration and keeps it: one that is removed comes back, others that appear are set aside. */
export function keepConfiguration(options: KeepOptions): void {
  const { log, signal, configFolder } = options;
  const ensure = (): void => {
    if (signal.aborted) return;
    if (!isWritten(options)) {
      writeConfiguration(options);
      log.info({ file: join(configFolder, CONFIG_FILE) }, 'CNI configuration written');
    }
    if (!options.exclusive) return;
    const aside = setOthersAside(options);
    if (aside.length) log.warn({ aside }, 'other CNI configurations set aside');
  };
  writeConfiguration(options);
  ensure();
  let watcher: FSWatcher;
  let scheduled = false;
  try {
    watcher = watch(configFolder, { persistent: false }, () => {
      if (scheduled) return;
      scheduled = true;
      setImmediate(() => {
        scheduled = false;
        try {
          ensure();
        } catch (error) {
          log.error({ error }, 'keep the CNI configuration');
        }
      });
    });
  } catch (error) {
    log.warn(
      { error },
      'the CNI folder cannot be watched: a configuration that appears later is not set aside',
    );
    return;
  }
  watcher.on('error', error => log.warn({ error }, 'watch the CNI folder'));
  signal.addEventListener('abort', () => watcher.close(), { once: true });
}

/** containerd 1.6 ignores creations and can miss a rename: a write and a removal it does not. */
function nudge(folder: string): void {
  const file = join(folder, '.isthmus-nudge');
  writeFileSync(file, '.');
  rmSync(file, { force: true });
}

function install(source: string, target: string): void {
  if (existsSync(target) && readFileSync(source).equals(readFileSync(target))) return;
  const temporary = `${target}.isthmus_new`;
  copyFileSync(source, temporary);
  chmodSync(temporary, 0o755);
  renameSync(temporary, target);
}

/** An executable of any of our versions names our socket. */
const isOurs = (path: string): boolean =>
  existsSync(path) && readFileSync(path).includes('/run/isthmus/cni.sock');

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Where a link points to; undefined where there is none. */
function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
