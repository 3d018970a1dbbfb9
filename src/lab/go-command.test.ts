import assert from 'node:assert/strict';
import { accessSync, chmodSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { goCommand } from './go-command.ts';

const architecture = process.arch === 'x64' ? 'amd64' : process.arch;

test('a go command too old for our go.mod files gets a newer one as a module, ready to run', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-go-'));
  const path = process.env.PATH;
  t.after(() => {
    process.env.PATH = path;
    rmSync(folder, { recursive: true });
  });
  const tools = `pkg/tool/linux_${architecture}`;
  for (const each of ['bin', tools]) mkdirSync(join(folder, 'toolchain', each), { recursive: true });
  for (const each of ['bin/go', `${tools}/compile`]) writeFileSync(join(folder, 'toolchain', each), '');
  const answerWith = (version: string): void =>
    writeFileSync(
      join(folder, 'go'),
      `#!/bin/sh
case "$1 $2" in
  version*) echo "go version ${version} linux/${architecture}" ;;
  'mod download') echo '{"Dir": "${folder}/toolchain"}' ;;
esac
`,
    );
  answerWith('go1.19.8');
  chmodSync(join(folder, 'go'), 0o755);
  process.env.PATH = `${folder}:/usr/bin:/bin`;
  const reported: string[] = [];
  assert.equal(await goCommand(line => reported.push(line)), join(folder, 'toolchain/bin/go'));
  assert.match(reported[0]!, /Go 1\.19\.8 is older/);
  for (const each of ['bin/go', `${tools}/compile`])
    accessSync(join(folder, 'toolchain', each), constants.X_OK);

  for (const version of ['go1.21.0', 'go1.26.8', 'go1.27rc1', 'devel go1.28-abcdef']) {
    answerWith(version);
    assert.equal(await goCommand(() => assert.fail('nothing is fetched')), 'go');
  }
  rmSync(join(folder, 'go'));
  process.env.PATH = folder;
  await assert.rejects(
    goCommand(() => undefined),
    /'go' command is not installed/,
  );
});
