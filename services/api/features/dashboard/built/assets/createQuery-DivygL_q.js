import{au as r,av as a}from"./index-BR2klij1.js";function s(e,t){return r(e,a)}export{s as c};
