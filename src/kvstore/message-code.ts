import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

const tools = join(import.meta.dirname, '../../node_modules/.bin');

/**
 * Makes the folder `output` anew: the code of the messages in the .proto files of the folder `work`, or in what `input` names
 * (an input of buf).
 */
export function writeMessageCode(output: string, work: string, input?: string): void {
  const template = {
    version: 'v2',
    plugins: [
      {
        local: join(tools, 'protoc-gen-es'),
        out: output,
        // JavaScript beside declarations: protobuf enums as TypeScript enums are not erasable syntax.
        opt: ['target=js+dts', 'import_extension=js'],
      },
    ],
  };
  rmSync(output, { recursive: true, force: true });
  const inputs = input === undefined ? [] : [input];
  execFileSync(join(tools, 'buf'), ['generate', ...inputs, '--template', JSON.stringify(template)], {
    cwd: work,
    stdio: 'inherit',
  });
}
