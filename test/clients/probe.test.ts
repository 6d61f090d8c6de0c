import { test } from 'vitest';
import { launchChromium } from '../support/chromium.ts';
import { startServer } from '../support/server.ts';
const INLINE = `# 1. Create a poll.\nmutation CreatePoll {\n  createPoll(input: { question: "Tabs or spaces?", choices: ["Tabs", "Spaces"] }) {\n    ... on CreatePollSuccess {\n      organizerKey\n      poll { id joinCode choices { id label } }\n    }\n    ... on Error { message }\n  }\n}`;
test('probe', async () => {
  await using server = await startServer();
  await using opened = await launchChromium();
  for (const [name, inline, query, css] of [['none', false, false, false], ['inline', true, false, false], ['inline+query', true, true, false], ['inline+query+css', true, true, true]] as const) {
    const page = await opened.browser.newPage({ viewport: { width: 1400, height: 850 } });
    await page.route(/\/graphql(\?.*)?$/, async (route) => {
      if (route.request().method() !== 'GET' || route.request().resourceType() !== 'document') return route.continue();
      const r = await route.fetch();
      let body = await r.text();
      const at = body.lastIndexOf('YogaGraphiQL.renderYogaGraphiQL(');
      let tail = body.slice(at);
      tail = tail.replace(/\{"[\s\S]*\},\s*\);/, (json) => {
        const o = JSON.parse(json.replace(/,\s*\);$/, ''));
        if (inline) o.defaultTabs[0] = { query: INLINE };
        if (query) o.query = o.defaultTabs[0].query;
        return JSON.stringify(o) + ',);';
      });
      body = body.slice(0, at) + tail;
      if (css) body = body.replace('</head>', '<style>.graphiql-tab { transform: none !important }</style></head>');
      await route.fulfill({ response: r, body });
    });
    const tabs = async () => (await page.locator('[role=tab]').evaluateAll((e) => e.map((x) => (x.getAttribute('aria-selected') === 'true' ? '*' : '') + x.textContent.replace('wze icon', '')))).join(' | ');
    const url = async () => decodeURIComponent(page.url()).replace(server.url, '').replace(/\s+/g, ' ').slice(0, 60);
    const button = (tab: string) => page.getByRole('tab', { name: tab }).getByRole('button', { name: tab });
    await page.goto(server.graphql);
    await page.waitForTimeout(2000);
    console.log('RES', name, 'opened', await tabs(), await url());
    await page.getByRole('button', { name: /^Execute query/ }).click();
    await page.waitForTimeout(700);
    console.log('RES', name, 'executed', (await page.locator('.graphiql-response').innerText()).replace(/\s+/g, ' ').slice(0, 60));
    await page.reload(); await page.waitForTimeout(2000);
    console.log('RES', name, 'reloaded', await tabs(), await url());
    const fresh = await opened.browser.newContext({ viewport: { width: 1400, height: 850 } });
    await fresh.close();
    await button('Watch').click(); await page.waitForTimeout(700);
    console.log('RES', name, 'watch clicked', await tabs(), await url());
    await page.reload(); await page.waitForTimeout(2000);
    console.log('RES', name, 'reloaded', await tabs(), await url());
    await page.context().close();
    // first click
    const p2 = await opened.browser.newPage({ viewport: { width: 1400, height: 850 } });
    if (css) await p2.addInitScript(() => addEventListener('DOMContentLoaded', () => { const s = document.createElement('style'); s.textContent = '.graphiql-tab { transform: none !important }'; document.head.append(s); }));
    await p2.goto(server.graphql); await p2.waitForTimeout(1500);
    await p2.getByRole('tab', { name: 'Watch' }).getByRole('button', { name: 'Watch' }).click();
    await p2.waitForTimeout(500);
    console.log('RES', name, 'first click', await p2.locator('[role=tab][aria-selected=true]').innerText());
    await p2.context().close();
  }
});
