/** Starts nginx with the shipped deploy/nginx.conf in a temporary folder. */
import { execFileSync } from 'node:child_process';
import { chownSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { unprivilegedUser } from './postgres.ts';
import { openSandbox, requireProgram } from './programs.ts';
import { ROOT } from './server.ts';

export interface NginxServer extends AsyncDisposable {
  readonly url: string;
}

/** In front of the URLs in `instances`. `tls`: enabled as the file says, with a new certificate. */
export async function startNginx(instances: readonly string[], tls = false): Promise<NginxServer> {
  const program = requireProgram('nginx');
  const user = unprivilegedUser();
  const sandbox = openSandbox('nginx', 'SIGQUIT', user);
  const port = await freePort();
  const file = join(sandbox.folder, 'nginx.conf');
  try {
    writeFileSync(file, render(sandbox.folder, instances, port, tls));
    if (tls) {
      const pair = ['key.pem', 'certificate.pem'].map((name) => join(sandbox.folder, name));
      const files = ['-keyout', pair[0] ?? '', '-out', pair[1] ?? '', '-subj', '/CN=localhost'];
      execFileSync(requireProgram('openssl'), ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files], {
        stdio: 'ignore',
      });
      if (user) for (const path of pair) chownSync(path, user.uid, user.gid);
    }
    const own = `daemon off; pid ${sandbox.folder}/nginx.pid;`;
    sandbox.start(program, ['-p', sandbox.folder, '-c', file, '-e', 'stderr', '-g', own]);
    // Any response shows that it listens.
    await sandbox.ready(() => fetch(`http://127.0.0.1:${port}/metrics`));
  } catch (error) {
    await sandbox[Symbol.asyncDispose]();
    throw error;
  }
  return { url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`, [Symbol.asyncDispose]: sandbox[Symbol.asyncDispose] };
}

/** Rewrites the lines of the shipped file that depend on the machine. Each must exist. */
function render(folder: string, instances: readonly string[], port: number, tls: boolean): string {
  let text = readFileSync(join(ROOT, 'deploy/nginx.conf'), 'utf8');
  const replace = (what: RegExp, by: string): void => {
    if (!what.test(text)) throw new Error(`deploy/nginx.conf has no ${what}`);
    text = text.replace(what, by);
  };
  const servers = instances.map((url) => `server ${new URL(url).host} fail_timeout=2s;`);
  replace(/( +server pollcast-\d:4000 resolve fail_timeout=2s;\n)+/, `${servers.join('\n')}\n`);
  // Debian's nginx is older and does not know these directives.
  replace(/ +resolver 127\.0\.0\.11 valid=5s;\n/, '');
  replace(/\/var\/cache\/nginx\//g, `${folder}/`);
  const unused = ['fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`);
  replace(/http \{\n/, `http {\n${unused.join('\n')}\n`);
  if (tls) {
    replace(/ +listen 80 [^\n]+\n/, '');
    replace(/#tls /g, '');
    replace(/listen 443 ssl/, `listen 127.0.0.1:${port} ssl http2`);
    replace(/ +http2 on;[^\n]+\n/, '');
    replace(/\/etc\/nginx\/tls\//g, `${folder}/`);
  } else replace(/listen 80 /, `listen 127.0.0.1:${port} `);
  return text;
}
