import{p as B,$ as H,v as I,t as O,k as f,g as n,w as v,A as j,W as m,l as E,x as b,s as y,m as Y,D as T,O as k,i as h,n as A,H as z}from"./index-ubgSPqcc.js";async function M(t){try{return await navigator.clipboard.writeText(t),!0}catch{const e=document.createElement("textarea");e.value=t,e.className="visually-hidden",document.body.append(e),e.select();const r=document.execCommand("copy");return e.remove(),r}}var R=A('<button class="button compact" type="button"> </button>'),q=A('<div class="box svelte-8rmv8u" role="group"><div class="row spread bar svelte-8rmv8u"><div class="row"></div> <div class="row"><span class="small soft" role="status"> </span> <button class="button compact" type="button">Copy</button></div></div> <pre tabindex="0" class="svelte-8rmv8u"> </pre></div>');function G(t,e){B(e,!0);let r=H(e,"label",3,"The same by the API");const s=T(()=>Object.keys(e.forms));let a=k(void 0);const o=T(()=>n(a)!==void 0&&n(a)in e.forms?n(a):n(s)[0]??"");let i=k("");async function u(){m(i,await M(e.forms[n(o)]??"")?"Copied":"The browser refuses; select the text",!0),setTimeout(()=>m(i,""),3e3)}var l=q(),$=h(l),x=h($);I(x,20,()=>n(s),d=>d,(d,p)=>{var c=R(),S=b(c,!0);O(()=>{f(c,"aria-pressed",p===n(o)),v(S,p)}),j("click",c,()=>m(a,p,!0)),E(d,c)});var C=y(x,2),g=h(C),N=b(g,!0),P=y(g,2),w=y($,2),J=b(w,!0);O(()=>{f(l,"aria-label",r()),v(N,n(i)),f(w,"aria-label",`${r()??""}, ${n(o)??""}`),v(J,e.forms[n(o)])}),j("click",P,u),E(t,l),Y()}z(["click"]);const D="$METEOR_API_KEY";function K(t,e,r){const s=JSON.stringify(t.body,null,2);return{curl:L(t,e,r,s),Python:W(t,e,r),JSON:s}}const F=t=>`'${t.replaceAll("'","'\\''")}'`;function L({method:t,path:e},r,s,a){const o=s?` \\
  -H "authorization: Bearer ${D}"`:"";return`curl -X ${t} ${r}${e}${o} \\
  -H 'content-type: application/json' \\
  -d ${F(a)}`}function W({method:t,path:e,body:r},s,a){const o=a?`
headers = {"authorization": f"Bearer {os.environ['METEOR_API_KEY']}"}`:"",i=a?`import os

import httpx
`:`import httpx
`,u=a?", headers=headers":"";return`${i}${o}
body = ${_(r)}
answer = httpx.${t.toLowerCase()}("${s}${e}", json=body${u})
answer.raise_for_status()
print(answer.json()["id"])
`}function _(t,e=""){if(t==null)return"None";if(t===!0)return"True";if(t===!1)return"False";const r=`${e}    `;if(Array.isArray(t))return t.length?`[
${t.map(s=>`${r}${_(s,r)},
`).join("")}${e}]`:"[]";if(typeof t=="object"){const s=Object.entries(t);return s.length?`{
${s.map(([a,o])=>`${r}${JSON.stringify(a)}: ${_(o,r)},
`).join("")}${e}}`:"{}"}return JSON.stringify(t)}export{G as C,K as f};
