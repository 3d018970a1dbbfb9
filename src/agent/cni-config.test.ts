import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { log } from '../log.ts';
import {
  type CniPaths,
  CONFIG_FILE,
  installPlugin,
  keepConfiguration,
  networkConfiguration,
  uninstallPlugin,
  writeConfiguration,
} from './cni-config.ts';

describe('the plugin on a node', () => {
  let folder: string;
  let paths: CniPaths;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'isthmus-cni-config-'));
    paths = {
      binFolder: join(folder, 'bin'),
      configFolder: join(folder, 'net.d'),
      runFolder: join(folder, 'run'),
    };
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const plugin = (content: string): string => {
    const path = join(folder, 'plugin');
    writeFileSync(path, `/run/isthmus/cni.sock ${content}`);
    return path;
  };

  it('is copied whole, also over an older one, and stands in for a missing loopback', () => {
    installPlugin(plugin('1'), paths);
    assert.equal(statSync(join(paths.binFolder, 'isthmus-cni')).mode & 0o777, 0o755);
    installPlugin(plugin('2'), paths);
    assert.match(readFileSync(join(paths.binFolder, 'isthmus-cni'), 'utf8'), /2$/);
    assert.match(readFileSync(join(paths.binFolder, 'loopback'), 'utf8'), /2$/);
    writeFileSync(join(paths.binFolder, 'loopback'), 'the node’s own');
    installPlugin(plugin('3'), paths);
    assert.equal(readFileSync(join(paths.binFolder, 'loopback'), 'utf8'), 'the node’s own');
    uninstallPlugin(paths);
    assert.deepEqual(readdirSync(paths.binFolder), ['loopback']);
  });

  it('is configured so that a runtime that reads on writes and removals sees it', async () => {
    writeConfiguration(paths);
    rmSync(join(paths.configFolder, CONFIG_FILE));
    const seen = new Promise<void>(resolve => {
      const watcher = watch(paths.configFolder, (type, name) => {
        if (type !== 'change' || name !== '.isthmus-nudge') return;
        watcher.close();
        resolve();
      });
    });
    writeConfiguration(paths);
    await seen;
    assert.deepEqual(readdirSync(paths.configFolder), [CONFIG_FILE]);
    const written = JSON.parse(readFileSync(join(paths.configFolder, CONFIG_FILE), 'utf8'));
    assert.equal(written.cniVersion, '1.0.0');
    assert.deepEqual(written.plugins, [{ type: 'isthmus-cni', capabilities: { portMappings: true } }]);
  });

  it('has no configuration after a reboot, and the one of an older version becomes one of this kind', () => {
    const path = join(paths.configFolder, CONFIG_FILE);
    mkdirSync(paths.configFolder);
    writeFileSync(path, networkConfiguration());
    writeConfiguration(paths);
    assert.equal(readFileSync(path, 'utf8'), networkConfiguration());
    rmSync(paths.runFolder, { recursive: true });
    assert.ok(lstatSync(path).isSymbolicLink());
    assert.equal(existsSync(path), false);
    writeConfiguration(paths);
    assert.equal(readFileSync(path, 'utf8'), networkConfiguration());
    uninstallPlugin(paths);
    assert.deepEqual([readdirSync(paths.configFolder), readdirSync(paths.runFolder)], [[], []]);
  });

  it('keeps its configuration the only one, and gives the others back in the end', async () => {
    const abort = new AbortController();
    const hold = setInterval(() => {}, 1000);
    const config = (name: string): string => join(paths.configFolder, name);
    writeConfiguration(paths);
    writeFileSync(config('10-bridge.conflist'), 'bridge');
    keepConfiguration({ ...paths, exclusive: true, log, signal: abort.signal });
    assert.deepEqual(
      readdirSync(paths.configFolder).sort(),
      [CONFIG_FILE, '10-bridge.conflist.isthmus_bak'].sort(),
    );
    writeFileSync(config('00-late.conf'), 'late');
    rmSync(config(CONFIG_FILE));
    while (existsSync(config('00-late.conf')) || !existsSync(config(CONFIG_FILE)))
      await new Promise(resolve => setTimeout(resolve, 5));
    abort.abort();
    clearInterval(hold);
    writeFileSync(config('10-bridge.conflist'), 'newer');
    uninstallPlugin(paths);
    assert.deepEqual(readdirSync(paths.configFolder).sort(), ['00-late.conf', '10-bridge.conflist']);
    assert.equal(readFileSync(config('10-bridge.conflist'), 'utf8'), 'newer');
    assert.equal(readFileSync(config('00-late.conf'), 'utf8'), 'late');
  });
});
