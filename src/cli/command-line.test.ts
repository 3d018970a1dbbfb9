/** What somebody sees who calls `isthmus` wrongly; each of these ends before anything is asked or changed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Command, CommanderError } from 'commander';
import { Failure } from '../failure.ts';
import { register as registerMesh } from './clustermesh.ts';
import { register as registerInstall } from './install.ts';
import { register as registerLab } from './lab.ts';

let folder: string;
let kubeconfig: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'isthmus-command-line-'));
  kubeconfig = join(folder, 'kubeconfig');
  const context = (name: string) => ({ name, context: { cluster: name, user: name } });
  writeFileSync(kubeconfig, JSON.stringify({ contexts: [context('isthmus-us'), context('isthmus-eu')] }));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** The message of a refused command line, with its hint; fails where it is not refused as such. */
async function refusal(line: string): Promise<string> {
  const said: string[] = [];
  const program = new Command('isthmus')
    .option('--context <name>')
    .option('--kubeconfig <file>')
    .option('-n, --namespace <name>', '', 'kube-system')
    .exitOverride()
    .configureOutput({ writeErr: text => said.push(text) });
  for (const register of [registerInstall, registerMesh, registerLab]) register(program);
  try {
    await program.parseAsync(line.split(' '), { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && said.length > 0) return said.join('');
    assert.ok(error instanceof Failure, `not told: ${error}`);
    assert.equal(error.exitCode, 2);
    return [error.message, error.hint].join('; ');
  }
  return assert.fail('not refused');
}

test('-n before the name of a lab does not take another lab down', async () => {
  assert.match(await refusal('lab down -n demo'), /--namespace .*labs; name the lab with --name/);
  assert.match(await refusal('lab fault heal --context us'), /--context .*labs; name the lab with --name/);
});

test('a time, a share or a rate that cannot be read is named', async () => {
  assert.match(await refusal('lab fault slow us-eu fast'), /found "fast", expected a time such as 40ms/);
  assert.match(await refusal('lab fault lose us-eu 200%'), /found "200%", expected a share such as 1%/);
  assert.match(await refusal('lab fault rate us-eu much'), /found "much", expected a rate such as 100mbit/);
});

test('a cluster is not connected with itself', async () => {
  const line = `--kubeconfig ${kubeconfig} clustermesh connect --context us --destination-context`;
  assert.match(await refusal(`${line} isthmus-us`), /context isthmus-us is named as both ends/);
  assert.match(await refusal(`${line} eu,us`), /context isthmus-us is named as both ends/);
});

test('a value without = is refused before Helm is asked', async () => {
  assert.match(await refusal('install --set cluster.name'), /expected KEY=VALUE, such as cluster\.name=us/);
});
